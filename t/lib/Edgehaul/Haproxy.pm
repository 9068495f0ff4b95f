# Haproxy.pm - haproxy before several HTTP servers, as in front of signers
package Edgehaul::Haproxy;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Edgehaul ();
use Edgehaul::Daemon;
use IO::Socket::INET;

# The servers' HOST:PORT.
sub new {
	my ($class, @servers) = @_;
	my $dir = Edgehaul->dir('haproxy');
	my $port = Edgehaul::free_port();
	my $n = 0;
	Edgehaul::spit("$dir/haproxy.cfg", join "\n", 'global',
		"\tmaxconn 1000", 'defaults', "\tmode http",
		"\ttimeout connect 2s", "\ttimeout client 70s",
		"\ttimeout server 70s", "\tretries 3", "\toption redispatch 1",
		'listen servers', "\tbind 127.0.0.1:$port",
		"\tbalance roundrobin", "\toption httpchk GET /health",
		map({ $n++; "\tserver s$n $_ check inter 200ms fall 1 rise 1" }
		    @servers), '');
	my $self = $class->SUPER::new(name => 'haproxy', short => 'haproxy',
		dir => $dir, program => Edgehaul::have('haproxy') . '/haproxy',
		args => ['-db', '-f', "$dir/haproxy.cfg"]);
	$self->{url} = "http://127.0.0.1:$port";
	$self->launch;
	Edgehaul::wait_for(sub { !$self->running
		|| IO::Socket::INET->new("127.0.0.1:$port") }, 10);
	die 'haproxy: ' . $self->log if !$self->running;
	return $self;
}

sub url { $_[0]{url} }

# It is no daemon of ours: how it ends does not matter.
sub stop_quietly { $_[0]{owner} == $$ and $_[0]->kill9 }

1;
