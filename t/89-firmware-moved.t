#!/usr/bin/perl
# Firmware whose bucket changes under a gateway that has signed URIs of the old
# one: a product that moves to another storage, and a storage that is replaced
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;
use Test::More;

Edgehaul->need_all('radosgw', 'minisign', 'curl');
my $rgw = Edgehaul->radosgw;
$rgw->bucket($_) for qw(one two three);
my $site = Edgehaul->site(start => 0);
my $signer = $site->signer;
my $w = Edgehaul::Workstation->new(url => $signer->url,
	token => $signer->token('publisher'));
my $public = $w->keygen;
# No CDN: all comes from the bucket, by URIs that hold for an hour.
$signer->storage('old', $rgw->storage('one'), expirationDuration => 'PT1H');
$signer->storage('new', $rgw->storage('two'), expirationDuration => 'PT1H');
sub product {
	my ($storage) = @_;
	my ($row) = $signer->rest('GET', '/v1/firmware/cam-x')->{json};
	my $r = $signer->rest('PUT', '/v1/firmware/cam-x', json => { hw => ['1'],
		publicKeys => [$public], storage => $storage });
	is($r->{status} =~ /^20/ ? 1 : $r->{content}, 1, "the product is in $storage");
}
sub publish {
	my ($version) = @_;
	my $bytes = Edgehaul::Publisher::bytes($version, 700_000);
	my ($rc, undef, $err) = $w->run('publish', '--product', 'cam-x',
		'--version', $version, $w->file("fw-$version.bin", $bytes));
	is($rc, 0, "$version: published") or diag($err);
	return $bytes;
}
sub offered {
	my ($version) = @_;
	return Edgehaul::http('GET', $site->url(
		'/firmware/check?p=cam-x&hw=1&v=0.1&id=a'))->{content}
	    =~ /^version=\Q$version\E$/m;
}
sub copy {
	my ($from, $to, $away) = @_;
	for my $key ($rgw->keys($from)) {
		$rgw->request('PUT', "/$to/$key", [], $rgw->object($from, $key)->{body});
		$rgw->request('DELETE', "/$from/$key") if $away;
	}
}
sub arrives {
	my ($bytes, $what) = @_;
	my $out = Edgehaul->dir('out') . '/fw';
	my $url = $site->url('/firmware/b/' . sha256_hex($bytes));
	ok(wait_for(sub { (Edgehaul->run('curl', '-sf', '-o', $out, $url))[0] == 0
		}, 30) && slurp($out) eq $bytes, $what);
}

product('old');
my $first = publish('1.0.0');
$site->configure(firmware => { publisher_key => $public, prefetch => 'off' });
$site->proxy->start;
$site->agent->start;
ok(wait_for(sub { offered('1.0.0') }), 'offered from the bucket');
arrives($first, 'and fetched');

# ---- the product moves ------------------------------------------------------
copy('one', 'two');
product('new');
my $second = publish('2.0.0');
ok(wait_for(sub { offered('2.0.0') }), 'moved: the manifest of the new bucket');
arrives($second, 'and its octets');

# ---- the storage is replaced under its name ---------------------------------
my $third = publish('3.0.0');
ok(wait_for(sub { offered('3.0.0') }), 'one more');
my $at = $site->url('/firmware/b/' . sha256_hex($third));
is(Edgehaul::http('GET', $at, headers => { Range => 'bytes=0-9' })->{content},
	substr($third, 0, 10), 'begun');
copy('two', 'three', 1);
$signer->storage('new', $rgw->storage('three'), expirationDuration => 'PT1H');
arrives($third, 'goes on from the new one, though the old URIs hold');
finish;
