# Signer.pm - a signer with a tenant, its tokens and the calls of an admin
package Edgehaul::Signer;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Edgehaul ();
use Edgehaul::Daemon;
use Edgehaul::Raw;

# dir; conf: more lines for [signer]; port: a fixed one.
sub new {
	my ($class, %o) = @_;
	my $dir = $o{dir} // Edgehaul->dir('signer');
	my $port = $o{port} // Edgehaul::free_port();
	my $self = $class->SUPER::new(name => $o{name} // 'signer',
		short => 'signer', dir => $dir,
		program => Edgehaul::top_builddir() . '/signer/edgehaul-signer',
		args => ['--config', "$dir/signer.conf"]);
	$self->{url} = "http://127.0.0.1:$port";
	$self->{objects} = "$dir/objects";
	$self->{tenant} = $o{tenant} // 'acme';
	Edgehaul::spit("$dir/signer.conf", join "\n", '[file_storage]',
		"dir = $dir/objects", '[signer]',
		"address = 127.0.0.1:$port", "public_url = $self->{url}",
		"state_dir = $dir/state", 'allow_private = yes',
		$o{conf} // '');
	mkdir "$dir/$_" for qw(state objects);
	return $self;
}

sub url { $_[0]{url} }

# Make a token by the command line; what it prints.
sub token {
	my ($self, $role, @more) = @_;
	my ($rc, $out, $err) = Edgehaul::Daemon->run($self->{program},
		'--config', "$self->{dir}/signer.conf", 'token', 'create',
		'--tenant', $self->{tenant}, '--role', $role, @more);
	die "token create: exit $rc\n$out$err\n" if $rc != 0;
	my ($token) = $out =~ /(\S+)\s*\z/;
	return $token;
}

sub admin {
	my ($self) = @_;
	return $self->{admin} //= $self->token('admin');
}

# A REST call as the tenant's admin, or with another token.
sub rest {
	my ($self, $method, $path, %o) = @_;
	return Edgehaul::http($method, $self->{url} . $path,
		token => $self->admin, %o);
}

# Make or replace a storage; dies if the signer will not have it.
sub storage {
	my ($self, $name, %fields) = @_;
	my $r = $self->rest('PUT', "/v1/storages/$name", json => \%fields);
	die "storage $name: $r->{status} $r->{content}\n" if !$r->{success};
	return $self;
}

# As many gateways as that, all with one token, that wait for news: open
# connections with GET /v1/updates on them.
sub polls {
	my ($self, $token, $n) = @_;
	my $version = Edgehaul::http('GET', "$self->{url}/v1/updates",
	    token => $token)->{json}{version};
	my ($at) = $self->{url} =~ m{//(.*)};
	return map {
		my $c = Edgehaul::Raw->new($at) or die "connect: $!\n";
		$c->send("GET /v1/updates?after=$version HTTP/1.1\r\n"
			. "Host: $at\r\nAuthorization: Bearer $token\r\n\r\n");
		$c;
	} 1 .. $n;
}

# So many calls of one token on one connection, none of which waits for the
# answer before: as fast as the signer is, however slow the client. The statuses.
sub flood {
	my ($self, $token, $n) = @_;
	my ($at) = $self->{url} =~ m{//(.*)};
	my $c = Edgehaul::Raw->new($at) or die "connect: $!\n";
	$c->send("GET /v1/updates HTTP/1.1\r\nHost: $at\r\n"
		. "Authorization: Bearer $token\r\n\r\n") for 1 .. $n;
	return map { my $r = $c->response; $r ? $r->{status} : () } 1 .. $n;
}

# Until so many long polls wait: what comes then wakes them.
sub wait_polls {
	my ($self, $n) = @_;
	return Edgehaul::wait_for(sub { $self->metric('long_polls') >= $n }, 30);
}

# A number of /metrics, which needs a metrics_address.
sub metric {
	my ($self, $name) = @_;
	my ($address) = $self->log =~ /.*name=metrics address=(\S+)/s;
	my $r = Edgehaul::http('GET', "http://$address/metrics");
	return ($r->{content} =~ /^edgehaul_signer_\Q$name\E (\S+)$/m)[0];
}

1;
