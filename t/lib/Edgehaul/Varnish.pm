# Varnish.pm - Varnish before a bucket, with the VCL of contrib/firmware
package Edgehaul::Varnish;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Edgehaul ();
use Edgehaul::Daemon;
use IO::Socket::INET;

# origin (HOST:PORT), path that is put before each request's.
sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('varnish');
	my $port = $o{port} // Edgehaul::free_port();
	my ($host, $at) = split /:/, $o{origin};
	my $vcl = Edgehaul::slurp(
	    Edgehaul::top_srcdir() . '/contrib/firmware/firmware.vcl');
	$vcl =~ s/\@HOST\@/$host/g;
	$vcl =~ s/\@PORT\@/$at/g;
	$vcl =~ s/\@PATH\@/$o{path}/g;
	Edgehaul::spit("$dir/firmware.vcl", $vcl);
	mkdir "$dir/wd";
	my $self = $class->SUPER::new(name => 'varnish', short => 'varnish',
		dir => $dir, program => Edgehaul::have('varnishd') . '/varnishd',
		args => ['-j', 'none', '-F', '-n', "$dir/wd", '-a',
			"127.0.0.1:$port", '-f', "$dir/firmware.vcl", '-s',
			'malloc,128m', '-T', 'none', '-p', 'vsl_space=2m']);
	$self->{url} = "http://127.0.0.1:$port";
	$self->launch;
	Edgehaul::wait_for(sub { !$self->running
		|| IO::Socket::INET->new("127.0.0.1:$port") }, 30);
	die 'varnish: ' . $self->log if !$self->running;
	return $self;
}

sub url { $_[0]{url} }

# It is no daemon of ours: how it ends does not matter.
sub stop_quietly { $_[0]{owner} == $$ and $_[0]->kill9 }

1;
