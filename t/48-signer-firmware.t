#!/usr/bin/perl
# The signer's version check: products, releases, manifests, and what gateways
# learn of them. Signatures are made by stock minisign.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;

Edgehaul->need_all('minisign');
my $metrics = '127.0.0.1:' . Edgehaul::free_port();
my $s = Edgehaul->signer(conf => "metrics_address = $metrics");
my $admin = $s->admin;
my $pub = $s->token('publisher');
my $gw = $s->token('gateway', '--gateway', 'gw-1');
my $fw = Edgehaul::Publisher->new($s, token => $pub);
$s->start;
$s->storage('default', type => 'FILE');
$s->storage('other', type => 'FILE', firmwareRoot => 'fw');

sub call {
	my ($status, $method, $path, %o) = @_;
	my $r = $s->rest($method, "/v1/firmware$path", token => $pub, %o);
	is($r->{status}, $status, "$method $path: $status") or diag($r->{content});
	return $r->{json};
}

sub errors { join '; ', map { "$_->{pointer} $_->{detail}" } @{ $_[0]{errors} // [] } }

# ---- products -------------------------------------------------------------

my %product = (hw => ['1.0', '1.1'], publicKeys => [$fw->public], maxSize => 1 << 20);
my $r = call(422, 'PUT', '/cam-x', json => { publicKey => 'x', maxSize => -1,
	hw => 'x', storage => 'none/' });
like(errors($r), qr{\Q$_\E}, "told: $_") for '/publicKey ', '/publicKeys ',
    '/maxSize ', '/hw ', '/storage ';
call(422, 'PUT', '/cam-x', json => { %product, storage => 'none' });
call(422, 'PUT', '/CAM', json => \%product);
call(422, 'PUT', '/cam-x', json => { publicKeys => ['RWnonsense'] });
# A name that no manifest could have later, when all is uploaded.
call(422, 'PUT', '/cam-x', json => { %product, hw => [$_] })
    for 'rev A', "\x{e9}1", 'x' x 65, '';
call(404, 'GET', '/cam-x');
call(404, 'GET', '/cam-x/stable');
call(201, 'PUT', '/cam-x', json => \%product);
is($s->rest('PUT', '/v1/firmware/cam-x', json => \%product, token => $gw)->{status},
    403, 'a gateway may not');
is_deeply(call(200, 'GET', '/cam-x')->{hw}, ['1.0', '1.1'], 'it is kept');
$r = call(422, 'PUT', '/cam-x', json => { %product, storage => 'other' });
like(errors($r), qr{/storage }, 'a publisher does not move it');
$r = call(422, 'PUT', '/cam-x', json => { %product,
	publicKeys => [Edgehaul::Publisher->new($s, token => $pub)->public] });
like(errors($r), qr{/publicKeys }, 'nor takes a key of others from it');
call(412, 'PUT', '/cam-x', json => \%product, headers => { 'if-match' => '"0"' });
is(scalar @{ call(200, 'GET', '')->{items} }, 1, 'one product');
my $other = Edgehaul::Signer->can('token')->({ %$s, tenant => 'rival' }, 'publisher');
is(scalar @{ $s->rest('GET', '/v1/firmware', token => $other)->{json}{items} }, 0,
    'none of another tenant');
is($s->rest('GET', '/v1/firmware/cam-x/stable', token => $other)->{status}, 404,
    'nor its releases');

# ---- the check of a version -----------------------------------------------

my $fw1 = $fw->image('fw1', 700_001);
my $fw2 = $fw->image('fw2', 300_000);
sub check {
	my ($status, $version, $image, %o) = @_;
	my $channel = delete $o{channel} // 'stable';
	return call($status, 'POST', "/cam-x/$channel/releases", json => {
		version => $version, files => [$image->{file}], %o });
}
$r = call(422, 'POST', '/cam-x/stable/releases', json => { version => '../1',
	hw => ['9.9'], minFrom => '0.1', files => [{ %{ $fw1->{file} },
	name => '.x', size => 2 << 20, sha256 => 'A' x 64 }] });
like(errors($r), qr{\Q$_\E}, "told: $_") for '/version ', '/hw/0 ',
    '/files/0/name ', '/files/0/size ', '/files/0/sha256 ';
check(422, '1.0.0', $fw1, minFrom => '0.9.0');
# What is not understood is refused, and no release is made of it.
$r = check(422, '1.0.0', $fw1, dryRun => 'yes');
like(errors($r), qr{/dryRun }, 'a dryRun that is no boolean is told');
$r = call(422, 'POST', '/cam-x/stable/releases', json => { version => '1.0.0',
	files => [{ %{ $fw1->{file} }, 'sha/512' => 'x' }] });
like(errors($r), qr{/files/0/sha~1512 There is no such field}, 'and a field of a file');
is_deeply(call(200, 'GET', '/cam-x/stable')->{releases}, [], 'nothing was checked in earnest');
$r = call(422, 'PUT', '/cam-x', json => { %product, note => 5 });
like(errors($r), qr{/note }, 'nor is a note dropped that is no text');
$r = check(200, '1.0.0', $fw1, hw => ['1.0']);
is($r->{seq}, 1, 'the first of its channel');
is_deeply([map { "$_->{name} $_->{state}" } @{ $r->{uploads} }],
    ['fw1.bin missing', 'fw1.bin.slices missing'], 'both are missing');
check(200, '1.0.0', $fw1, hw => ['1.0']);
like(check(409, '1.0.0', $fw2, hw => ['1.0'])->{title}, qr/other bytes/,
    'a version never stands for other bytes');
like(check(409, $_, $fw2)->{title}, qr/not lower/, "$_ is not higher")
    for '0.9.9', '1.0.0-rc1', 'v1.0', '1.0.0+build2', '0.09.9', '01.0.0',
    '1.0.0.0';
like(check(409, 'r12', $fw2)->{title}, qr/cannot be told/,
    'nor is what has no order');
check(200, $_, $fw2, channel => 'names') for 'r12', 'r9', '1.0';
check(409, 'r13', $fw2, channel => 'names'); # numbered from now on
check(200, '0.5.0', $fw2, channel => 'beta');
check(422, '1.1.0', $fw2, minFrom => '0.5.0'); # checked only: no device runs it
check(409, '1.1.0', $fw2, seq => 1);

# ---- objects: never others over them --------------------------------------

my ($up, $list) = map { $_->{recipe} } @{ $r->{uploads} };
is($fw->put($up, $fw1->{bytes})->{status}, 201, 'the file is put');
is($fw->put($up, $fw1->{bytes})->{status}, 200, 'again: the same');
isnt($fw->put($up, 'x' x length $fw1->{bytes})->{status}, 201, 'other bytes: no');
my $manifest = $fw->manifest('cam-x', 'stable', 1, [$fw->release('1.0.0', 1, $fw1,
	hw => ['1.0'])]);
$r = call(422, 'PUT', '/cam-x/stable/manifest', json => $manifest);
like(errors($r), qr/bucket does not have .*slices/, 'no manifest before all is there');
$fw->put($list, $fw1->{list});
$r = check(200, '1.0.0', $fw1, hw => ['1.0']);
is_deeply([map { $_->{state} } @{ $r->{uploads} }], [qw(present present)], 'now present');
my $signed = call(200, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ version => '1.0.0', name => 'fw1.bin', method => 'GET' },
	{ version => '1.0.0', name => 'fw1.bin.slices', method => 'GET' }] });
is($fw->get($signed->{results}[0]{recipe})->{content}, $fw1->{bytes}, 'it reads back');
my $part = $fw->get($signed->{results}[0]{recipe}, range => 'bytes=699990-');
is($part->{status}, 206, 'a range of it');
is($part->{headers}{'content-range'}, 'bytes 699990-700000/700001', 'the right one');
is($part->{content}, substr($fw1->{bytes}, 699990), 'and its octets');
is($fw->get($signed->{results}[0]{recipe}, range => 'bytes=700001-')->{status}, 416,
    'past the end');
call(422, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ version => '1.0.0', name => 'none.bin' }] });
# For stores that would write over it: no PUT is signed for what is there.
my %file = (version => '1.0.0', name => 'fw1.bin');
$r = call(409, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ %file, method => 'GET' }, { %file }] });
like($r->{title}, qr{has this object already: cam-x/stable/1\.0\.0/fw1\.bin}, 'it says which');
ok($r->{hint}, 'and what to do');
call(409, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ %file, step => $_, kept => { uploadId => 'x' } }] }) for 'start', 'finish';
call(422, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ version => '9.0.0', name => 'fw1.bin' }] });

# ---- manifests ------------------------------------------------------------

sub offer {
	my ($status, $what, $m, %o) = @_;
	my $r = $s->rest('PUT', '/v1/firmware/cam-x/stable/manifest', json => $m,
	    token => $pub, %o);
	is($r->{status}, $status, $what) or diag($r->{content});
	return $r->{json};
}
my @good = ($fw->release('1.0.0', 1, $fw1, hw => ['1.0']));
sub m1 { $fw->manifest('cam-x', 'stable', 1, @_) }
my $strange = Edgehaul::Publisher->new($s, token => $pub);
like(errors(offer(422, 'a strange key', $strange->manifest('cam-x', 'stable', 1,
	\@good))), qr/key that the product does not have/, 'told');
my $bad = m1(\@good);
$bad->{manifest} =~ s/1\.0\.0/1.0.1/;
like(errors(offer(422, 'changed after signing', $bad)), qr/does not fit/, 'told');
offer(422, 'no signature', { %{ m1(\@good) }, signature => 'x' });
offer(422, 'the comment of another seq', m1(\@good, comment => 'seq:9'));
offer(422, 'another product', $fw->manifest('cam-y', 'stable', 1, \@good));
offer(422, 'another channel', $fw->manifest('cam-x', 'beta', 1, \@good));
offer(422, 'expired', m1(\@good, expires => '2020-01-01T00:00:00Z'));
offer(409, 'not the next seq', $fw->manifest('cam-x', 'stable', 2, \@good));
offer(422, 'no JSON', { manifest => '{', signature => m1(\@good)->{signature} });
for my $o ([version => '1.0.1'], [seq => 2], [hw => ['1.1']], [min_from => '0.1'],
    [sha256 => 'a' x 64], [size => 5], [path => 'cam-x/stable/1.0.0/x.bin'],
    [slices => { size => 262144, sha256 => 'b' x 64 }]) {
	my $rel = $fw->release('1.0.0', 1, $fw1, hw => ['1.0']);
	my ($k, $v) = @$o;
	$k =~ /^(sha256|size|path|slices)$/ ? ($rel->{files}[0]{$k} = $v) : ($rel->{$k} = $v);
	offer(422, "not what was checked: $k", m1([$rel]));
}
my $updates = sub { $s->rest('GET', '/v1/updates' . ($_[0] // ''), token => $gw)->{json} };
is_deeply($updates->()->{firmware}, [], 'gateways are told nothing yet');
$r = offer(200, 'the first manifest', m1(\@good), headers => { 'if-none-match' => '*' });
is($r->{seq}, 1, 'its seq');
$r->{lost} = "$s->{objects}/$s->{tenant}/default/firmware/cam-x/stable/1.0.0/fw1.bin.slices";
unlink $r->{lost} or die "$r->{lost}: $!";
like(call(409, 'POST', '/cam-x/stable/sign', json => { uploads => [
	{ version => '1.0.0', name => 'fw1.bin.slices', @$_ }] })->{title}, qr/was published/,
    'of what was published nothing is put again') for [], [step => 'start'],
    [step => 'part', part => 1, kept => { uploadId => 'x' }];
like(check(409, '1.0.0', $fw1, hw => ['1.0'])->{hint}, qr/backup/, 'nor if it is lost');
is($fw->put($list, $fw1->{list})->{status}, 201, 'a PUT that was signed before brings it back');
is_deeply([map { "$_->{name} $_->{state}" } @{ $r->{uploads} }],
    ['manifest-1.json missing', 'manifest-1.json.minisig missing',
    'manifest.json missing', 'manifest.json.minisig missing'], 'its four names');
my $m = m1(\@good);
$fw->put_all($r, $m) for 1;
is(call(200, 'GET', '/cam-x/stable/manifest')->{announced}, 0, 'not announced');
is_deeply($updates->()->{firmware}, [], 'nor told');
call(422, 'POST', '/cam-x/stable/manifest/announce', json => { seq => 2 });
call(200, 'POST', '/cam-x/stable/manifest/announce', json => { seq => 1 });
my $u = $updates->();
is_deeply($u->{firmware}, [{ product => 'cam-x', channel => 'stable', seq => 1,
	storage => 'default' }], 'now gateways know');
is_deeply($u->{policy}, { firmwareProducts => ['cam-x'] }, 'and their products');

# A long poll is woken.
my $pid = fork // die;
if ($pid == 0) {
	my $got = $updates->("?after=$u->{version}");
	spit(Edgehaul->dir . '/woken', Time::HiRes::time() . ' ' . $got->{firmware}[0]{seq});
	require POSIX;
	POSIX::_exit(0);
}
ok(wait_for(sub { Edgehaul::http('GET', "http://$metrics/metrics")->{content}
	=~ /^edgehaul_signer_long_polls 1$/m }), 'a gateway waits');
my @two = (@good, $fw->release('1.1.0', 2, $fw2));
$r = check(200, '1.1.0', $fw2);
offer(412, 'an If-Match of before', $fw->manifest('cam-x', 'stable', 2, \@good),
    headers => { 'if-match' => '"0"' });
offer(422, 'files that are missing', $fw->manifest('cam-x', 'stable', 2, \@two));
$fw->put($r->{uploads}[0]{recipe}, $fw2->{bytes});
$fw->put($r->{uploads}[1]{recipe}, $fw2->{list});
my $second = $fw->manifest('cam-x', 'stable', 2, \@two, revoked => [$fw1->{file}{sha256}]);
$r = offer(200, 'the second', $second, headers => { 'if-match' => '"1"' });
my ($stale) = grep { $_->{name} eq 'manifest.json' } @{ $r->{uploads} };
$fw->put_all($r, $second);
my $told = Time::HiRes::time();
call(200, 'POST', '/cam-x/stable/manifest/announce', json => { seq => 2 });
waitpid $pid, 0;
my ($when, $seq) = split / /, slurp(Edgehaul->dir . '/woken');
is($seq, 2, 'the waiting gateway sees the second');
cmp_ok($when - $told, '<', 1, 'within a second');
is($fw->read('cam-x/stable/manifest.json'), $second->{manifest}, 'manifest.json is it');
is($fw->read('cam-x/stable/manifest-1.json'), $fw->{put}{'manifest-1.json'}, 'the first stays');

# The same again repairs what a killed publisher left.
is(offer(200, 'the second again', $second, headers => { 'if-match' => '"1"' })->{uploads}[0]{state},
    'present', 'it is there');
offer(409, 'the first again is none', m1(\@good));
offer(422, 'revoked for good', $fw->manifest('cam-x', 'stable', 3, \@two));
like(errors(check(409, '1.2.0', $fw1)), qr{/files/0/sha256 },
    'nor are its bytes released under another version');

# Two at once: one wins.
my @pids;
for my $n (0, 1) {
	my $p = fork // die;
	if ($p == 0) {
		my $mine = $fw->manifest('cam-x', 'stable', 3, [@two[1, 0]],
		    revoked => [$fw1->{file}{sha256}], expires => '2090-01-0' . ($n + 1) . 'T00:00:00Z');
		my $r = $s->rest('PUT', '/v1/firmware/cam-x/stable/manifest', token => $pub,
		    json => $mine, headers => { 'if-match' => '"2"' });
		require POSIX;
		POSIX::_exit($r->{status} == 200 ? 1 : $r->{status} == 412 || $r->{status} == 409 ? 2 : 3);
	}
	push @pids, $p;
}
my @ended = map { waitpid $_, 0; $? >> 8 } @pids;
is_deeply([sort @ended], [1, 2], 'of two publishers one wins');

# What replaces the manifest of a bucket replaces that one only.
$r = $s->rest('GET', '/v1/firmware/cam-x/stable/manifest', token => $pub)->{json};
my $again = offer(200, 'it again', { manifest => $r->{manifest}, signature => $r->{signature} });
my ($late) = grep { $_->{name} eq 'manifest.json' } @{ $again->{uploads} };
is($fw->put($late->{recipe}, $r->{manifest})->{status}, 201, 'over the one that was seen');
is($fw->put($stale->{recipe}, $second->{manifest})->{status}, 412, 'but not over another');
# A publisher's token without the key: the manifest that everybody knows, again.
$again = offer(200, 'once more', { manifest => $r->{manifest}, signature => $r->{signature} });
for my $u (grep { $_->{state} eq 'replace' } @{ $again->{uploads} }) {
	isnt($fw->put($u->{recipe}, 'x' x $u->{size})->{status}, 201, "no other bytes as $u->{name}");
}
is($fw->read('cam-x/stable/manifest.json'), $r->{manifest}, 'so it stays');
call(200, 'POST', '/cam-x/stable/manifest/announce', json => { seq => 3 });
$again = offer(200, 'told', { manifest => $r->{manifest}, signature => $r->{signature} });
is_deeply([map { $_->{recipe} ? 'a recipe' : $_->{state} } @{ $again->{uploads} }[2, 3]],
    ['present', 'present'], 'once gateways know nothing is put over it, whatever the store does');

# ---- taking back, deleting ------------------------------------------------

check(200, '9.9.9', $fw2);
call(409, 'DELETE', '/cam-x/stable/releases/1.1.0');
call(204, 'DELETE', '/cam-x/stable/releases/9.9.9');
check(200, '1.2.0', $fw->image('fw3', 10), minFrom => '1.0.0');
call(409, 'DELETE', '/cam-x');
call(201, 'PUT', '/lens', json => { publicKeys => [$fw->public], storage => 'other' });
call(204, 'DELETE', '/lens');
is_deeply([map { $_->{version} } @{ call(200, 'GET', '/cam-x/stable')->{releases} }],
    ['1.0.0', '1.1.0', '1.2.0'], 'releases of the channel');
my @actions = map { $_->{action} } @{ $s->rest('GET', '/v1/audit?limit=1000')->{json}{items} };
for my $a (qw(product.create release.check manifest.put manifest.announce release.delete)) {
	ok((grep { $_ eq $a } @actions), "the audit log has $a");
}

# ---- gateways -------------------------------------------------------------

sub recipe {
	my ($key, %o) = @_;
	my $r = $s->rest('POST', '/v1/sign', token => $gw, json => { uploads => [{
		id => 'x', method => 'GET', key => $key, %o }] });
	return $r->{json}{results}[0];
}
is($fw->get(recipe('cam-x/stable/1.0.0/fw1.bin')->{recipe})->{content}, $fw1->{bytes},
    'a gateway reads firmware');
is(recipe($_)->{error}{status}, 403, "not $_") for 'cam-y/stable/x', 'cam-x', 'x';
is(recipe('cam-x/../x')->{error}{status}, 422, 'no dots');
is(recipe('cam-x/stable/x', storage => 'other')->{error}{status}, 403, 'not there');
$s->rest('PUT', '/v1/gateways/gw-1', json => { policy => { storages => ['other'],
	firmwareProducts => ['lens'] } });
is(recipe('cam-x/stable/1.0.0/fw1.bin')->{error}{status}, 403, 'not in its policy');
is_deeply($updates->()->{firmware}, [], 'nor told of it');
$s->rest('PUT', '/v1/gateways/gw-1', json => { policy => { storages => ['other'],
	firmwareProducts => ['cam-x'] } });
ok(recipe('cam-x/stable/1.0.0/fw1.bin')->{recipe}, 'in its policy, in a storage it may not write');
is_deeply([map { $_->{name} } @{ $updates->()->{storages} }], ['default', 'other'],
    'whose hosts it is told');
$s->rest('PUT', '/v1/gateways/gw-1', json => { prefix => 'firmware/' });
is(recipe('cam-x/stable/9.9/fw.bin', method => 'PUT', size => 1)->{error}{status}, 403,
    'no upload among the firmware');

# ---- what devices run -----------------------------------------------------

$r = $s->rest('POST', '/v1/firmware/feedback', token => $gw, json => { devices => [
	{ id => 'cam-25', product => 'cam-x', version => '1.0.0', seen => 5, full => 1 },
	{ id => 'cam-26', product => 'lens', version => '7' }] });
is($r->{json}{accepted}, 2, 'two devices are told');
is($s->rest('POST', '/v1/firmware/feedback', token => $gw, json => { devices => [{}] })->{status},
    422, 'one without a name is not');
$r = call(200, 'GET', '/cam-x/stable/devices');
is(scalar @{ $r->{items} }, 1, 'one runs the product');
is("$r->{items}[0]{gateway} $r->{items}[0]{id} $r->{items}[0]{version}", 'gw-1 cam-25 1.0.0',
    'and which version');
# A gateway that is blocked tells nothing more.
my @told = (POST => '/v1/firmware/feedback', token => $gw, json => { devices => [
	{ id => 'cam-27', product => 'cam-x', version => '6.6.6' }] });
$s->rest('PUT', '/v1/gateways/gw-1', json => { blocked => JSON::PP::true() });
$r = $s->rest(@told);
is($r->{status}, 403, 'a gateway that is blocked tells nothing');
like($r->{json}{title}, qr/is blocked/, 'it is told so');
is(scalar @{ call(200, 'GET', '/cam-x/stable/devices')->{items} }, 1, 'nothing of it is kept');
$s->rest('PUT', '/v1/gateways/gw-1', json => { blocked => JSON::PP::false() });
# The tenant's devices are bounded, whatever its gateways make up.
my $conf = slurp("$s->{dir}/signer.conf");
spit("$s->{dir}/signer.conf", $conf =~ s/^\[signer\]$/[signer]\ndevices_max = 3/mr);
$s->reload;
my @many = map { { id => "made-up-$_", product => 'cam-x', version => '1' } } 1 .. 5;
my $gw2 = $s->token('gateway', '--gateway', 'gw-2');
$r = $s->rest('POST', '/v1/firmware/feedback', token => $gw2, json => { devices => \@many });
is_deeply($r->{json}, { accepted => 1, dropped => 4 }, 'no more than devices_max');
$r = $s->rest('POST', '/v1/firmware/feedback', token => $gw, json => { devices => [
	{ id => 'cam-25', product => 'cam-x', version => '1.1.0', seen => 6 }] });
is_deeply($r->{json}, { accepted => 1, dropped => 0 }, 'those that are known are still told');
$r = call(200, 'GET', '/cam-x/stable/devices');
is($r->{items}[0]{version}, '1.1.0', 'and kept');
# What is not told again is forgotten, also of a gateway that is gone.
spit("$s->{dir}/signer.conf", $conf =~ s/^\[signer\]$/[signer]\ndevices_max = 3\ndevices_keep = 3 s/mr);
$s->stop;
sleep 4;
$s->start;
ok(wait_for(sub { !@{ call(200, 'GET', '/cam-x/stable/devices')->{items} } }), 'old rows are gone');
like($s->log, qr/devices=3 were not heard of/, 'it is logged');
spit("$s->{dir}/signer.conf", $conf =~ s/^\[signer\]$/[signer]\ndevices_max = 3/mr);
$s->reload;
$r = $s->rest('POST', '/v1/firmware/feedback', token => $gw2, json => { devices => \@many });
is_deeply($r->{json}, { accepted => 3, dropped => 2 }, 'they make room');
$s->rest('DELETE', '/v1/gateways/gw-2');
$r = $s->rest(@told);
is_deeply($r->{json}, { accepted => 1, dropped => 0 }, 'as does a gateway that is deleted');
$s->rest('DELETE', '/v1/gateways/gw-1');
is(scalar @{ call(200, 'GET', '/cam-x/stable/devices')->{items} }, 0,
    'a gateway that is deleted takes its devices along');

# A tenant that is made anew has nothing of before.
my $root = do { local $s->{tenant} = 'ops'; $s->token('root') };
is($s->rest('DELETE', '/v1/tenants/acme', token => $root)->{status}, 204, 'a tenant is deleted');
$s->rest('PUT', '/v1/tenants/acme', token => $root);
my $fresh = $s->token('publisher');
is(scalar @{ $s->rest('GET', '/v1/firmware', token => $fresh)->{json}{items} }, 0,
    'no products of a tenant that was deleted');
unlike($s->log, qr/X-Edge-Signature|RWQ/, 'no signed URI in the log');
finish;
