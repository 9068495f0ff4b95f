#!/usr/bin/perl
# What the signer does for publishers at stores that do less, or are slow: no PUT
# over what is there where the store would take it, one session of a role for
# many calls, many objects looked at together.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;
use Time::HiRes qw(time);

Edgehaul->need_all('radosgw', 'swift', 'minisign');
my $slow = Edgehaul::slowness();
my $s = Edgehaul->signer;
my $token = $s->token('publisher');
$s->start;
my $p = Edgehaul::Workstation->new(url => $s->url, token => $token);
$p->keygen;

sub call {
	my ($status, $method, $path, %o) = @_;
	my $r = $s->rest($method, "/v1/firmware$path", token => $token, %o);
	is($r->{status}, $status, "$method $path: $status") or diag($r->{content});
	return $r->{json};
}
sub product {
	my ($name) = @_;
	is(($p->run('product', '--product', "cam-$name", '--storage', $name))[0], 0, "cam-$name");
}

# ---- a store without conditional writes -----------------------------------

my $swift = Edgehaul->swift;
$swift->bucket('fwbucket');
$s->storage('swift', $swift->storage('fwbucket'), noOverwrite => JSON::PP::false());
product('swift');
my $fw = Edgehaul::Publisher->new($s, token => $token);
my $image = $fw->image('one', 70_000);
my %release = (version => '1.0.0', files => [$image->{file}]);
my $early = call(200, 'POST', '/cam-swift/stable/releases', json => \%release)->{uploads};
my %entry = (version => '1.0.0', name => 'one.bin');
call(200, 'POST', '/cam-swift/stable/sign', json => { uploads => [\%entry] });
cmp_ok($early->[0]{recipe}{expiresIn}, '<=', 60, 'a PUT is signed for a minute only');
my $file = $p->file('one.bin', $image->{bytes});
my ($rc, $out, $err) = $p->run('publish', '--product', 'cam-swift', '--version', '1.0.0', $file);
is($rc, 0, 'published') or diag($err);
my $key = 'firmware/cam-swift/stable/1.0.0/one.bin';
for my $e ({}, { step => 'start' }, { step => 'part', part => 1, kept => { uploadId => 'x' } },
    { step => 'finish', kept => { uploadId => 'x', 'part.1' => '"x"' } }) {
	my $r = call(409, 'POST', '/cam-swift/stable/sign', json => { uploads => [{ %entry, %$e }] });
	ok($r->{hint}, 'refused with a hint: PUT ' . ($e->{step} // 'whole'));
}
cmp_ok(call(200, 'POST', '/cam-swift/stable/sign', json => { uploads => [
	{ %entry, method => 'GET' }] })->{results}[0]{recipe}{expiresIn}, '>', 60,
    'a GET as long as ever');
# Why: a PUT that was signed for in time is taken over the other.
is($fw->put($early->[0]{recipe}, 'x' x 70_000)->{status}, 200, 'this store would take it');
is($swift->object('fwbucket', $key)->{body}, 'x' x 70_000, 'over what was there');

# Somebody has put another file there before the publisher.
my $two = $fw->image('two', 70_000);
my $r = call(200, 'POST', '/cam-swift/stable/releases',
    json => { version => '1.1.0', files => [$two->{file}] });
$fw->put($r->{uploads}[0]{recipe}, 'y' x 70_000);
$r = call(409, 'POST', '/cam-swift/stable/sign', json => { uploads => [
	{ version => '1.1.0', name => 'two.bin' }] });
like($r->{title}, qr/already.*two\.bin/, 'not written over before it is published, either');
($rc, $out, $err) = $p->run('publish', '--product', 'cam-swift', '--version', '1.1.0',
    $p->file('two.bin', $two->{bytes}));
is($rc, 65, 'the publisher is told');
like($err, qr/other bytes/, 'what it is');

# ---- a session of a role --------------------------------------------------

local $ENV{RADOSGW_STS} = 1;
my $rgw = Edgehaul->radosgw->bucket('fwbucket');
my $sts = Edgehaul->detour("127.0.0.1:$rgw->{port}");
$s->storage('role', $rgw->storage('fwbucket', roleArn => $rgw->role('firmware')),
    stsEndpoint => 'http://' . $sts->authority);
product('role');
$sts->mode('pass');
($rc, $out, $err) = $p->run('publish', '--product', 'cam-role', '--version', '1.0.0',
    $p->file('role.bin', Edgehaul::Publisher::bytes('role', 18_000_001)));
is($rc, 0, 'published by sessions of a role') or diag($err);
cmp_ok($sts->count, '<=', 1, 'one for all of it') or diag($sts->count);

# ---- many objects at a slow store -----------------------------------------

my $far = Edgehaul->detour("127.0.0.1:$rgw->{port}");
my %far = $rgw->storage('fwbucket');
$s->storage('far', %far, endpoint => 'http://' . $far->authority, firmwareRoot => 'far');
product('far');
my $many = [map { $fw->image("f$_", 1000)->{file} } 1 .. 32];
$far->mode('pass', delay => 0.4);
my $began = time;
$r = call(200, 'POST', '/cam-far/stable/releases', json => { version => '1.0.0', files => $many });
my $took = time - $began;
note(sprintf '%.1f s for %d objects', $took, scalar @{ $r->{uploads} });
is(scalar @{ $r->{uploads} }, 64, 'all are looked at');
cmp_ok($took, '<', 6 * $slow, 'some at a time'); # 25 s one by one
cmp_ok($far->count, '<=', 16, 'on few connections');
$far->mode('hang');
$began = time;
$r = call(502, 'POST', '/cam-far/stable/releases', json => { version => '1.0.0', files => $many });
like($r->{title}, qr/cannot be reached/, 'a store that hangs is told');
cmp_ok(time - $began, '<', 25 * $slow, 'soon'); # 64 times 10 s, one by one
finish;
