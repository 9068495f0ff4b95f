#!/usr/bin/perl
# Firmware from the publisher to a device, with everything real between them:
# the command, a bucket, rclone to a second bucket, Varnish before the first, a
# gateway, curl. Then each carrier fails in turn.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Raw;
use Edgehaul::Varnish;
use Edgehaul::Workstation;

Edgehaul->need_all('radosgw', 'varnishd', 'rclone', 'curl', 'wget', 'busybox', 'aria2c',
    'nbdkit', 'nbdcopy');
my $rgw = Edgehaul->radosgw->bucket('acme-firmware')->bucket('acme-spare');
for my $b ('acme-firmware', 'acme-spare') {
	my $r = $rgw->request('PUT', "/$b", [['policy', '']], json_encode({
		Version => '2012-10-17', Statement => [{ Effect => 'Allow',
		Principal => '*', Action => ['s3:GetObject'],
		Resource => ["arn:aws:s3:::$b/*"] }] }));
	is($r->{status}, $r->{status} == 204 ? 204 : 200, "$b may be read");
}
my $varnish = Edgehaul::Varnish->new(origin => "127.0.0.1:$rgw->{port}",
    path => '/acme-firmware/firmware');
my $signer = Edgehaul->signer;
my $publisher = $signer->token('publisher');
my $token = $signer->token('gateway', '--gateway', 'gw-1');
$signer->start;
$signer->storage('default', type => 'FILE');
$signer->storage('fw', $rgw->storage('acme-firmware'));
$signer->rest('PUT', '/v1/gateways/gw-1', json => { policy => {
	storages => ['default'], firmwareProducts => ['cam-x'] } });
my $p = Edgehaul::Workstation->new(url => $signer->url, token => $publisher);
my $public = $p->keygen;
my @cam = ('--product', 'cam-x');

sub edgehaul {
	my ($word, @args) = @_;
	my ($rc, $out, $err) = $p->run($word, @cam, @args);
	is($rc, 0, "edgehaul firmware $word") or diag($out . $err);
}
edgehaul('product', '--storage', 'fw', '--hw', '1.0');

# ---- a release, its backup ------------------------------------------------

my %sha;
sub release {
	my ($version, $size) = @_;
	my $bytes = Edgehaul::Publisher::bytes("fw $version", $size);
	$sha{$version} = sha256_hex($bytes);
	edgehaul('publish', '--version', $version, '--hw', '1.0',
	    $p->file("fw-$version.bin", $bytes));
}

my %env = (%ENV, map { my $n = uc; ("RCLONE_CONFIG_${n}_TYPE" => 's3',
	"RCLONE_CONFIG_${n}_PROVIDER" => 'Ceph',
	"RCLONE_CONFIG_${n}_ENDPOINT" => $rgw->endpoint,
	"RCLONE_CONFIG_${n}_ACCESS_KEY_ID" => $rgw->{access},
	"RCLONE_CONFIG_${n}_SECRET_ACCESS_KEY" => $rgw->{secret}) } 'bucket', 'spare');
delete $env{AWS_CA_BUNDLE};
sub backup {
	local %ENV = (%env, HOME => $p->{dir});
	return Edgehaul->run('bash', Edgehaul::top_srcdir() . '/contrib/firmware/backup', @_,
	    'bucket:acme-firmware/firmware', 'spare:acme-spare/firmware');
}
sub keys_of { [grep { m{^firmware/} } sort $rgw->keys($_[0])] }

release('1.0.0', 40 * 1024 * 1024 + 123);
is(scalar @{ keys_of('acme-firmware') }, 6, 'its objects are in the bucket');
my ($rc, $out, $err) = backup();
is($rc, 0, 'backup') or diag($err);
is_deeply(keys_of('acme-spare'), keys_of('acme-firmware'), 'the backup has the same');
is((backup('--verify'))[0], 0, 'byte for byte');
is($rgw->object('acme-spare', 'firmware/cam-x/stable/manifest.json')->{body},
    $rgw->object('acme-firmware', 'firmware/cam-x/stable/manifest.json')->{body}, 'the newest manifest');

# While a publisher replaces the manifest again and again: what is in the backup
# afterwards fits its signature. Both pairs are what the command put there.
{
	edgehaul('refresh');
	my $at = 'firmware/cam-x/stable/manifest';
	my %pair = map { my $n = $_; ($n => [map { $rgw->object('acme-firmware', "$at-$n.json$_")->{body} }
		'', '.minisig']) } 1, 2;
	my $put = sub { $rgw->request('PUT', "/acme-firmware/$at.json$_[0]", [], $_[1]) };
	my $stop = Edgehaul->dir . '/stop';
	my $pid = fork // die;
	if ($pid == 0) {
		for (my $n = 1; !-e $stop; $n = 3 - $n) {
			$put->('', $pair{$n}[0]);
			$put->('.minisig', $pair{$n}[1]);
		}
		require POSIX;
		POSIX::_exit(0);
	}
	my (%fits, $bad);
	for (1 .. 6) {
		my ($rc, undef, $err) = backup();
		$bad = $err if $rc != 0;
		my ($m, $sig) = map { $rgw->object('acme-spare', "$at.json$_")->{body} } '', '.minisig';
		$fits{ (grep { $pair{$_}[0] eq $m && $pair{$_}[1] eq $sig } 1, 2)[0] // 'neither' }++;
	}
	spit($stop, '');
	waitpid $pid, 0;
	$put->('', $pair{2}[0]);
	$put->('.minisig', $pair{2}[1]);
	is($bad, undef, 'backup while it is published');
	ok(!$fits{neither}, 'the manifest of the backup always fits its signature')
	    or diag(json_encode(\%fits));
	is((backup())[0], 0, 'backup');
	is($rgw->object('acme-spare', "$at.json")->{body}, $pair{2}[0], 'the newest in the end');
	# One that is no signature of the command's is no reason to lose what is there.
	$put->('.minisig', 'rubbish');
	isnt((backup())[0], 0, 'rubbish is told');
	is($rgw->object('acme-spare', "$at.json.minisig")->{body}, $pair{2}[1], 'and not copied');
	$put->('.minisig', $pair{2}[1]);
}

# ---- gateway and device ---------------------------------------------------

my $gw = Edgehaul->gateway(signer => $signer->url, token => $token, name => 'gw-1', conf => {
	firmware => { origin => $varnish->url, publisher_key => $public,
		backup => $rgw->endpoint . '/acme-spare/firmware', prefetch => 'off' } });
$gw->proxy->start;
$gw->agent->start;

sub check {
	my ($v) = @_;
	my $r = Edgehaul::http('GET', $gw->url("/firmware/check?p=cam-x&hw=1.0&v=$v&id=cam-1"));
	my %got = map { split /=/, $_, 2 } grep { /=/ } split /\n/, $r->{content};
	return \%got;
}
sub offered {
	my ($version, $from, $secs) = @_;
	return Edgehaul::wait_for(sub { my $c = check($from);
		($c->{status} // '') eq 'update' && ($c->{version} // '') eq $version and $c }, $secs // 20);
}
# By unmodified curl; the hash of what came.
sub fetch {
	my ($url) = @_;
	my $file = "$p->{dir}/got";
	unlink $file;
	my ($rc, undef, $err) = Edgehaul->run('curl', '-sSf', '--retry', '8', '--retry-delay', '1',
	    '-o', $file, $url =~ m{^http} ? $url : $gw->url($url));
	return $rc == 0 ? sha256_hex(slurp($file)) : "curl $rc: $err";
}

my $c = offered('1.0.0', '0.9.0');
ok($c, 'a device is offered the release') or diag(json_encode(check('0.9.0')));
is($c->{sha256}, $sha{'1.0.0'}, 'with its hash');
is(fetch($c->{url}), $sha{'1.0.0'}, 'curl fetches it from the gateway: the same bytes');
is(fetch("/firmware/b/$sha{'1.0.0'}/fw.bin"), $sha{'1.0.0'}, 'once more, from the cache');
like($varnish->log . join('', `varnishstat -n $varnish->{dir}/wd -1 -f MAIN.cache_miss 2>/dev/null`),
    qr/cache_miss\s+[1-9]/, 'it came by Varnish') if Edgehaul::have('varnishstat');

# What no path of firmware has never gets to the bucket.
for (['/cam-x/stable/manifest.json', 1], ['/cam-x/stable/no%2Bne.json', 1],
	['/cam-x/stable/manifest.json?x=/../y', 1], ['/../secret', 0], ['/', 0],
	['/cam-x/stable/../../../secret', 0], ['/cam-x/%2e%2e/%2e%2e/secret', 0],
	['/cam-x/stable/.hidden', 0], ['/cam-x/stable/./manifest.json', 0],
	['/cam-x//stable/manifest.json', 0], ['/cam-x/stable/1.0.0/a%2fb', 0],
	['/cam-x/stable/1.0.0/..%2f..', 0], ['/cam-x/stable/', 0],
	['/cam-x/stable/1.0.0/a/b', 0], ['/cam-x/stable/%00', 0]) {
	my ($path, $goes) = @$_;
	my $c = Edgehaul::Raw->new($varnish->url =~ s{.*/}{}r);
	$c->send("GET $path HTTP/1.1\r\nHost: cdn\r\n\r\n");
	my $r = $c->response // {};
	is(defined $r->{headers}{'x-cache'} ? 1 : 0, $goes,
		"$path is " . ($goes ? '' : 'not ') . 'asked for');
	is($r->{status}, 404, 'but is not there') if !$goes;
}

# Other unmodified clients, from the start and from the middle; SWUpdate and the
# camera that probes by ranges are in t/83 and t/81.
{
	my $url = $c->{url} =~ m{^http} ? $c->{url} : $gw->url($c->{url});
	my $got = "$p->{dir}/client";
	my $half = substr slurp("$p->{dir}/got"), 0, 20 << 20;
	for (['wget -c', 'wget', '-q', '-c', '-O', $got, $url],
	    ['busybox wget -c', 'busybox', 'wget', '-q', '-c', '-O', $got, $url],
	    ['aria2c -x8', 'aria2c', '-q', '-x8', '-s8', '-k1M', '-d', $p->{dir}, '-o', 'client',
		"--checksum=sha-256=$sha{'1.0.0'}", $url],
	    ['nbdcopy', 'nbdkit', '-U', '-', 'curl', "url=$url", '--run', "nbdcopy \$uri $got"]) {
		my ($name, @command) = @$_;
		unlink $got;
		Edgehaul::spit($got, $half) if $name =~ /-c$/;
		my ($rc, undef, $err) = Edgehaul->run(@command);
		is($rc, 0, "$name fetches it") or diag($err);
		is(sha256_hex(slurp($got)), $sha{'1.0.0'}, 'the same bytes');
	}
}

# ---- a new release, a revoked one -----------------------------------------

release('1.1.0', 3_000_000);
my $at = Time::HiRes::time();
$c = offered('1.1.0', '1.0.0', 10);
note(sprintf 'offered %.2f s after it was published', Time::HiRes::time() - $at);
ok($c, 'the next release, although the CDN holds the manifest of before');
cmp_ok(Time::HiRes::time() - $at, '<', 5 * Edgehaul::slowness(), 'in 5 s');
is(fetch($c->{url}), $sha{'1.1.0'}, 'it is fetched');
edgehaul('revoke', '--version', '1.1.0');
$at = Time::HiRes::time();
ok(Edgehaul::wait_for(sub { (check('1.0.0')->{status} // '') eq 'none' }, 10), 'revoked: not offered');
note(sprintf 'not offered %.2f s after it was revoked', Time::HiRes::time() - $at);
cmp_ok(Time::HiRes::time() - $at, '<', 5 * Edgehaul::slowness(), 'in 5 s');
is(Edgehaul::http('GET', $gw->url("/firmware/b/$sha{'1.1.0'}"))->{success} ? 'served' : 'refused',
    'refused', 'nor served from the cache');

# ---- the CDN fails, then the bucket ---------------------------------------

$varnish->kill9;
release('1.2.0', 3_000_000);
$c = offered('1.2.0', '1.0.0');
ok($c, 'without the CDN a release is offered');
is(fetch($c->{url}), $sha{'1.2.0'}, 'and comes from the bucket');
release('1.3.0', 3_000_000);
is((backup())[0], 0, 'backup');
$c = offered('1.3.0', '1.0.0');
$rgw->request('DELETE', "/acme-firmware/firmware/cam-x/stable/1.3.0/fw-1.3.0.bin");
is(fetch($c->{url}), $sha{'1.3.0'}, 'without the bucket it comes from the backup');
is((backup('--verify'))[0], 0, 'verify finds nothing amiss');
$rgw->request('PUT', '/acme-spare/firmware/cam-x/stable/1.2.0/fw-1.2.0.bin', [], 'x' x 3_000_000);
isnt((backup('--verify'))[0], 0, 'but other bytes of the same size it does');
isnt((backup())[0], 64, 'and a copy never writes over a file');
is($rgw->object('acme-spare', 'firmware/cam-x/stable/1.2.0/fw-1.2.0.bin')->{body}, 'x' x 3_000_000, 'so it stays');
for my $d ($gw->proxy, $gw->agent, $signer) {
	unlike($d->log, qr/X-Amz-Signature/, 'no signed URI in the log of ' . $d->name);
}
finish;
