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

# Make a role that the user may assume and that may do all with S3; its ARN.
# The server must have been started with RADOSGW_STS=1.
sub role {
	my ($self, $name) = @_;
	my %document = (
		role => ['create', '--path=/', '--assume-role-policy-doc='
		    . Edgehaul::json_encode({ Version => '2012-10-17',
			Statement => [{ Effect => 'Allow',
				Principal => { AWS => ['arn:aws:iam:::user/test'] },
				Action => ['sts:AssumeRole'] }] })],
		'role-policy' => ['put', '--policy-name=p', '--policy-doc='
		    . Edgehaul::json_encode({ Version => '2012-10-17',
			Statement => [{ Effect => 'Allow', Action => ['s3:*'],
				Resource => 'arn:aws:s3:::*' }] })],
	);
	for my $what (qw(role role-policy)) {
		my ($rc, $out, $err) = Edgehaul->run('radosgw-admin', '-c',
			"$self->{dir}/ceph.conf", '-n', 'client.admin',
			'--no-mon-config', $what, @{ $document{$what} },
			"--role-name=$name");
		die "radosgw-admin $what: $out$err\n" if $rc != 0;
	}
	return "arn:aws:iam:::role/$name";
}

1;
