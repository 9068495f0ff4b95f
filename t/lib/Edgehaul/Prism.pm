# Prism.pm - a proxy that holds both sides to an OpenAPI document
package Edgehaul::Prism;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Edgehaul ();
use Edgehaul::Daemon;

# What breaks the document is answered by the proxy's own problem, whose type
# is at stoplight.io.
sub new {
	my ($class, $document, $upstream) = @_;
	my $dir = Edgehaul->dir('prism');
	my $port = Edgehaul::free_port();
	my $self = $class->SUPER::new(name => 'prism', short => 'prism',
		dir => $dir, program => Edgehaul::have('node') . '/node',
		args => [Edgehaul::prism_main(), 'proxy', '--errors', '-p',
			$port, $document, $upstream]);
	$self->{url} = "http://127.0.0.1:$port";
	$self->launch;
	Edgehaul::wait_for(sub { !$self->running
		|| $self->new_log =~ /Prism is listening/ }, 60);
	die 'prism: ' . $self->log if !$self->running;
	return $self;
}

sub _command { # neither wrapped nor under another user
	my ($self) = @_;
	return ('setpriv', '--pdeathsig', 'KILL', $self->{program},
		@{ $self->{args} });
}

sub url { $_[0]{url} }

# It is no daemon of ours: how it ends does not matter.
sub stop_quietly { $_[0]{owner} == $$ and $_[0]->kill9 }

1;
