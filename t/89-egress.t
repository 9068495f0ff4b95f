#!/usr/bin/perl
# One download a site: three gateways behind one CDN, many devices behind each,
# all at once. What leaves the bucket is the release once, what leaves the CDN
# once for each site. EDGEHAUL_DEVICES=50 is the number to show; make check
# makes do with fewer.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Varnish;
use Edgehaul::Workstation;

Edgehaul->need_all('radosgw', 'varnishd', 'varnishstat', 'curl');
my $devices = $ENV{EDGEHAUL_DEVICES} || 6;
my $size = 40 * 1000 * 1000;
my $rgw = Edgehaul->radosgw->bucket('acme-firmware');
$rgw->request('PUT', '/acme-firmware', [['policy', '']], json_encode({
	Version => '2012-10-17', Statement => [{ Effect => 'Allow', Principal => '*',
	Action => ['s3:GetObject'], Resource => ['arn:aws:s3:::acme-firmware/*'] }] }));
my $varnish = Edgehaul::Varnish->new(origin => "127.0.0.1:$rgw->{port}",
    path => '/acme-firmware/firmware');
my $signer = Edgehaul->signer;
my $publisher = $signer->token('publisher');
my @tokens = map { $signer->token('gateway', '--gateway', "gw-$_") } 1 .. 3;
$signer->start;
$signer->storage('default', type => 'FILE');
$signer->storage('fw', $rgw->storage('acme-firmware'));
my $p = Edgehaul::Workstation->new(url => $signer->url, token => $publisher);
my $public = $p->keygen;
is(($p->run('product', '--product', 'cam-x', '--storage', 'fw'))[0], 0, 'a product');
my @gw = map { Edgehaul->gateway(signer => $signer->url, token => $tokens[$_ - 1], name => "gw-$_",
	conf => { firmware => { origin => $varnish->url, publisher_key => $public, prefetch => 'off',
		parallel_devices => 64 } }) } 1 .. 3;
for my $g (@gw) {
	$g->proxy->start;
	$g->agent->start;
}
my $bytes = Edgehaul::Publisher::bytes('egress', $size);
my $sha = sha256_hex($bytes);
is(($p->run('publish', '--product', 'cam-x', '--version', '1.0.0', $p->file('fw.bin', $bytes)))[0], 0, 'published');
for my $g (@gw) {
	ok(wait_for(sub { Edgehaul::http('GET', $g->url('/firmware/check?p=cam-x&hw=1&v=0.1&id=a'))
		->{content} =~ /status=update/ }), "$g->{name} offers it");
}

# What the CDN took from the bucket and gave to gateways, in octets of bodies.
sub traffic {
	my %n = `varnishstat -n $varnish->{dir}/wd -1` =~ /^(\S+)\s+(\d+)/mg;
	my ($in) = map { $n{$_} } grep { /\.bucket\.beresp_bodybytes$/ } keys %n;
	return ($in, $n{'MAIN.s_resp_bodybytes'});
}
my ($in0, $out0) = traffic();
my $start = Time::HiRes::time();
my @pids;
for my $g (@gw) {
	for my $n (1 .. $devices) {
		my $pid = fork // die "fork: $!\n";
		if ($pid == 0) {
			my $url = $g->url("/firmware/b/$sha");
			my $got = `curl -sSf --retry 20 --retry-delay 1 '$url' 2>/dev/null | sha256sum`;
			require POSIX;
			POSIX::_exit($got =~ /^$sha/ ? 0 : 1);
		}
		push @pids, $pid;
	}
}
my $good = grep { waitpid $_, 0; $? == 0 } @pids;
my $secs = Time::HiRes::time() - $start;
is($good, 3 * $devices, 'every device has the right bytes');
my ($in, $out) = traffic();
ok(wait_for(sub { ($in, $out) = traffic(); $out - $out0 >= $size }, 5), 'the CDN has counted');
$_ /= 1e6 for $in -= $in0, $out -= $out0;
diag(sprintf '%d devices, %.0f MB served in %.1f s; %.1f MB left the bucket, %.1f MB the CDN',
    $good, $good * $size / 1e6, $secs, $in, $out);
cmp_ok($in, '<=', 42, 'at most 42 MB left the bucket');
cmp_ok($out, '<=', 126, 'at most 126 MB left the CDN');
finish;
