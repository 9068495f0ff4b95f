# Postgresql.pm - a throw-away PostgreSQL, for signers that share their state
package Edgehaul::Postgresql;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Edgehaul ();
use Edgehaul::Daemon;
use POSIX ();

sub new {
	my ($class) = @_;
	my $dir = Edgehaul->dir('postgresql');
	my $port = Edgehaul::free_port();
	my $self = $class->SUPER::new(name => 'postgresql',
		short => 'postgresql', dir => $dir, program => script(),
		args => ['run', "$dir/db", $port]);
	$self->{port} = $port;
	return $self->start;
}

sub script { Edgehaul::top_srcdir() . '/t/lib/backends/postgresql' }

sub _command { # it sees to its own user and its end
	my ($self) = @_;
	return ('setpriv', '--pdeathsig', 'QUIT', 'bash', $self->{program},
		@{ $self->{args} });
}

sub start {
	my ($self) = @_;
	$self->launch;
	my $ok = Edgehaul::wait_for(sub {
		!$self->running || $self->new_log =~ /ready to accept conn/ }, 30);
	die "postgresql did not start:\n" . $self->log
	    if !$ok || !$self->running;
	return $self;
}

# As a server that is switched off: its clients are told nothing good.
sub halt {
	my ($self) = @_;
	$self->signal('QUIT');
	Edgehaul::wait_for(sub { !$self->running }, 10)
	    or die "postgresql does not end\n";
	return $self;
}

sub stop_quietly {
	my ($self) = @_;
	$self->halt if $self->{owner} == $$ && $self->running;
}

sub DESTROY { local ($?, $!, $@); eval { $_[0]->stop_quietly } }

sub uri {
	my ($self, $database) = @_;
	return "postgresql://postgres\@127.0.0.1:$self->{port}/"
	    . ($database // 'postgres');
}

# From the next start on it takes TLS, with this certificate and key.
sub tls {
	my ($self, $cert, $key) = @_;
	my $data = "$self->{dir}/db/data";
	my $uid = (stat $data)[4];
	for ([$cert, 'server.crt'], [$key, 'server.key']) {
		my ($from, $to) = ($_->[0], "$data/$_->[1]");
		Edgehaul::spit($to, Edgehaul::slurp($from));
		chmod 0600, $to;
		chown $uid, -1, $to;
	}
	$self->sql('ALTER SYSTEM SET ssl = on');
	return $self;
}

# One statement by psql; what it prints, unaligned.
sub sql {
	my ($self, $statement) = @_;
	my ($rc, $out, $err) = Edgehaul::Daemon->run('psql', '-qAtX', '-c',
		$statement, $self->uri);
	die "psql: $err\n" if $rc != 0;
	return $out;
}

1;
