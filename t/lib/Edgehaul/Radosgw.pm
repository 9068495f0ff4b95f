# Radosgw.pm - a real S3 server (Ceph)
package Edgehaul::Radosgw;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::S3';
use Edgehaul ();
use Edgehaul::S3;

sub new {
	my ($class) = @_;
	my $dir = Edgehaul->dir('radosgw');
	my $self = bless { dir => $dir, owner => $$,
		port => Edgehaul::free_port(), access => 'testaccess',
		secret => 'testsecret' }, $class;
	Edgehaul::register($self);
	system('bash', $self->script, 'start', $dir, $self->{port},
		Edgehaul::free_port()) == 0
	    or die "radosgw did not start:\n"
	    . join '', map { Edgehaul::slurp($_) } glob "$dir/log/*.out";
	return $self;
}

sub name { 'radosgw' }

1;
