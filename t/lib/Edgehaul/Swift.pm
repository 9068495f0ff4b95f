# Swift.pm - a real S3 server that is strict: OpenStack Swift with s3api
#
# It refuses what radosgw lets pass: another region, x-amz-* headers that are
# not signed. It knows no If-None-Match on PUT (501) and keeps no storage class.
package Edgehaul::Swift;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::S3';
use Edgehaul ();
use Edgehaul::S3;

sub new {
	my ($class) = @_;
	# next to each other: the proxy, its three servers, memcached
	my $port = Edgehaul::free_port();
	my $dir = Edgehaul->dir('swift');
	my $self = bless { dir => $dir, owner => $$, port => $port,
		access => 'test:tester', secret => 'testing' }, $class;
	Edgehaul::register($self);
	system('bash', $self->script, 'start', $dir, $port) == 0
	    or die "swift did not start:\n"
	    . join '', map { Edgehaul::slurp($_) } glob "$dir/log/*.out";
	return $self;
}

sub name { 'swift' }

sub storage {
	my ($self, $bucket, %more) = @_;
	return $self->SUPER::storage($bucket,
		noOverwrite => JSON::PP::false(), %more);
}

1;
