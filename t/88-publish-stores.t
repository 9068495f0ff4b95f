#!/usr/bin/perl
# edgehaul firmware into each kind of store: parts, a second version over the
# manifest of the first, and a gateway that reads it by ranges.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;

my $s = Edgehaul->signer;
my $token = $s->token('publisher');
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
my $p = Edgehaul::Workstation->new(url => $s->url, token => $token);
$p->keygen;
my $bytes = Edgehaul::Publisher::bytes('stores', 18_000_001);
my $one = $p->file('fw-1.bin', $bytes);
my $two = $p->file('fw-2.bin', 'two' x 1000);

# A gateway's GET of a key, with a range.
sub fetch {
	my ($storage, $key, $range) = @_;
	my $r = $s->rest('POST', '/v1/sign', token => $gw, json => { uploads => [{ id => 'x',
		method => 'GET', storage => $storage, key => $key }] })->{json}{results}[0];
	diag(json_encode($r)) if !$r->{recipe};
	return Edgehaul::http('GET', $r->{recipe}{uri}, headers => { %{ $r->{recipe}{headers} },
		$range ? (range => $range) : () });
}

sub publishes {
	my ($name, %storage) = @_;
	$s->storage($name, %storage);
	my $product = "cam-$name";
	my @product = ('--product', $product);
	is(($p->run('product', @product, '--storage', $name))[0], 0, "$name: a product");
	my ($rc, undef, $err) = $p->run('publish', @product, '--version', '1.0.0', $one);
	is($rc, 0, "$name: published in parts") or return diag($err);
	($rc, undef, $err) = $p->run('publish', @product, '--version', '1.1.0', $two);
	is($rc, 0, "$name: the next one, over its manifest") or diag($err);
	($rc) = $p->run('publish', @product, '--version', '1.1.0', $one);
	is($rc, 65, "$name: no other bytes");
	my $r = fetch($name, "$product/stable/1.0.0/fw-1.bin", 'bytes=17999990-');
	is("$r->{status} $r->{content}", '206 ' . substr($bytes, 17_999_990), "$name: its end by a range");
	$r = fetch($name, "$product/stable/manifest.json");
	is(scalar @{ json_decode($r->{content})->{releases} }, 2, "$name: the manifest has both");
}

publishes('file', type => 'FILE');
SKIP: {
	need(6, 'azurite');
	my $azurite = Edgehaul->azurite;
	$azurite->container('firmware');
	publishes('azure', $azurite->storage('firmware'));
}
SKIP: {
	need(6, 'swift');
	my $swift = Edgehaul->swift;
	$swift->bucket('fwbucket');
	publishes('swift', $swift->storage('fwbucket'), noOverwrite => JSON::PP::false());
}
# Sessions of a role; and a user who may put and get but not list, so that what
# is not there is forbidden to look at (403).
SKIP: {
	need(13, 'radosgw');
	local $ENV{RADOSGW_STS} = 1;
	my $rgw = Edgehaul->radosgw->bucket('fwbucket')->bucket('narrow');
	publishes('role', $rgw->storage('fwbucket', roleArn => $rgw->role('firmware')));
	my ($rc, $out, $err) = Edgehaul->run('radosgw-admin', '-c', "$rgw->{dir}/ceph.conf", '-n',
		'client.admin', '--no-mon-config', 'user', 'create', '--uid=narrow',
		'--display-name=narrow', '--access-key=narrowaccess', '--secret=narrowsecret');
	diag($err) if $rc != 0;
	$rgw->request('PUT', '/narrow', [['policy', '']], json_encode({ Version => '2012-10-17',
		Statement => [{ Effect => 'Allow', Principal => { AWS => ['arn:aws:iam:::user/narrow'] },
		Action => ['s3:GetObject', 's3:PutObject'], Resource => ['arn:aws:s3:::narrow/*'] }] }));
	my %narrow = ($rgw->storage('narrow'), accessKeyId => 'narrowaccess',
		secretAccessKey => 'narrowsecret');
	publishes('narrow', %narrow);
	my $missing = $s->rest('POST', '/v1/sign', token => $gw, json => { uploads => [{ id => 'x',
		method => 'GET', storage => 'narrow', key => 'cam-narrow/stable/none' }] });
	is(Edgehaul::http('GET', $missing->{json}{results}[0]{recipe}{uri})->{status}, 403,
	    'narrow: what is not there is forbidden');
}
unlike($s->log, qr/sig=|X-Amz-Signature/, 'no signed URI in the log');
finish;
