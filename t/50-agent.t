#!/usr/bin/perl
# The agent against a signer and a store that refuse, stall, lie and come back
use strict;
use warnings;
use Edgehaul;
use Socket qw(inet_aton inet_ntoa);
use Test::More;

my $cloud = Edgehaul->cloud;
my $gw = Edgehaul->gateway(signer => $cloud->url, token => $cloud->token);
my $agent = $gw->agent;
$gw->proxy->start;
$agent->start;

my $sent = 0; # uploads that were taken
sub put {
	my ($name, $body, %o) = @_;
	my $dev = $o{device} // 'cam-1';
	my $r = $gw->put("/upload/$dev/$name", $body, type => 'image/jpeg');
	die "PUT $name: " . ($r->{status} // 'nothing') . "\n"
	    if ($r->{status} // 0) != 201;
	$sent++;
	return $r->{json}{id};
}
sub arrived {
	my ($id, $body) = @_;
	my ($o) = grep { $_->{key} =~ /\Q$id\E/ } values %{ $cloud->objects };
	return defined $o && $o->{body} eq $body;
}
sub row { my ($id) = @_; return (grep { $_->{id} eq $id } $gw->queue_ls)[0] }
sub error_of { my $r = row(@_); return $r ? $r->{last_error} // '' : '' }
sub logged { my ($re) = @_; return scalar(() = $agent->new_log =~ /$re/g) }

# ---- sizes and types --------------------------------------------------------
my %body = ('empty.bin' => '', 'one.bin' => 'x', 'a.jpg' => jpeg(),
	'edge.bin' => 'y' x 16384, 'over.bin' => 'z' x 16385,
	'piece.bin' => 'p' x 32768, 'many.bin' => join('', map { chr($_ % 251) }
	    1 .. 1_000_003));
my %id = map { $_ => put($_, $body{$_}) } sort keys %body;
ok($gw->drained(20, $sent), 'all sizes go out');
ok(arrived($id{$_}, $body{$_}), "$_ arrives as it was") for sort keys %body;
like((keys %{ $cloud->objects })[0],
	qr{^default/cam-1/\d{4}-\d\d-\d\d/\d{6}-[0-9a-f]{32}-\w+\.\w+$},
	'the key is made by the template');
is((grep { ($_->{headers}{authorization} // '') ne '' }
    $cloud->requests('PUT')), 0, 'no token goes to the store');
is((grep { exists $_->{headers}{expect} } $cloud->requests('PUT')), 0,
	'no Expect');

# ---- a store that answers 503, with and without Retry-After -----------------
$cloud->rules(put => [{ status => 503, code => 'SlowDown', times => 2 }]);
my $id = put('busy.jpg', jpeg());
ok(wait_for(sub { error_of($id) =~ /store answered 503 SlowDown/ }),
	'queue ls tells why');
is(row($id)->{state}, 'waiting', 'it waits');
ok($gw->drained(40, $sent), 'it goes out at the third try');
like($agent->log, qr/warn +id=$id deferred try=1 next=\d/, 'deferred is logged');
like($agent->log, qr/id=$id delivered dev=cam-1 bytes=\d+ ms=\d+ tries=3/,
	'so is delivered');

$cloud->rules(put => [{ status => 503, times => 1,
	headers => { 'Retry-After' => 4 } }]);
$id = put('later.jpg', jpeg());
ok($gw->drained(40, $sent), 'goes out after Retry-After');
my @puts = $cloud->requests('PUT', qr/$id/);
is(scalar @puts, 2, 'in two tries');
cmp_ok($puts[1]{at} - $puts[0]{at}, '>=', 3.9, 'not earlier than was asked');

# ---- recipes that came too late, objects that are there ---------------------
$cloud->rules(put => [{ status => 403, code => 'Expired', times => 1 }]);
my $signs = () = $cloud->requests('POST', qr{/v1/sign});
$id = put('expired.jpg', jpeg());
ok($gw->drained(20, $sent), '403 Expired: signed again at once');
cmp_ok((() = $cloud->requests('POST', qr{/v1/sign})) - $signs, '>=', 2,
	'by a second request');
is(logged(qr/id=$id deferred/), 0, 'without waiting');

# The store has it, but the answer was lost.
$cloud->rules(create_only => 1, put => [{ status => 409, code => 'Exists',
	times => 1 }], head => [{ status => 404, times => 1 }]);
$id = put('lost.jpg', jpeg());
ok($gw->drained(40, $sent), '409, then not there: it is sent after all');
$cloud->rules(create_only => 1, lie => 1);
$id = put('twice.jpg', jpeg());
ok(wait_for(sub { error_of($id) =~ /does not fit/ }),
	'an ETag that does not fit is no success');
$cloud->rules(create_only => 1);
ok($gw->drained(40, $sent), '409 Exists: HEAD shows that it is there');
ok(arrived($id, jpeg()), 'it is');

$cloud->rules(verify => { header => 'X-Nowhere', digest => 'md5-hex' });
$id = put('mute.jpg', jpeg());
ok($gw->drained(20, $sent), 'a store that tells no digest: HEAD does');
ok((grep { 1 } $cloud->requests('HEAD', qr/$id/)), 'it was asked');
$cloud->rules(verify => { header => 'X-Nowhere', digest => 'md5-hex' },
	head_verify => { size => JSON::PP::true, header => 'ETag',
	digest => 'md5-hex' });
$id = put('md5.bin', $body{'many.bin'});
ok($gw->drained(20, $sent), 'the same by MD5, for which it is read again');

$cloud->rules(verify => { header => 'X-Nowhere', digest => 'md5-hex' },
	head_verify => {});
$id = put('blind.jpg', jpeg());
ok(wait_for(sub { error_of($id) =~ /what to compare/ }),
	'a HEAD that compares nothing proves nothing');
$cloud->rules;
ok($gw->drained(40, $sent), 'it goes out when there is something');

# A store that tells the SHA-256 of what it has: the ETag need be no MD5.
my %or = (verify => { header => 'ETag', digest => 'md5-hex',
	or => { header => 'X-Sha', digest => 'sha256-base64' } });
for my $body (jpeg(), $body{'many.bin'}) {
	my $n = length $body;
	$cloud->rules(%or, sha => 'right', lie => 1);
	put("sha.$_.$n.jpg", $body) for 1, 2;
	ok($gw->drained(20, $sent), "$n octets: the store's SHA-256 is enough");
	$cloud->rules(%or, sha => 'wrong');
	$id = put("bent.$n.jpg", $body);
	ok(wait_for(sub { error_of($id) =~ /X-Sha does not fit/ }),
		'one that does not fit is no success');
	$cloud->rules(%or, lie => 1);
	$id = put("without.$n.jpg", $body);
	ok(wait_for(sub { error_of($id) =~ /ETag does not fit/ }),
		'without one the ETag counts, by an MD5 made afterwards');
	$cloud->rules(%or);
	ok($gw->drained(40, $sent), 'and fits where it should');
}

# ---- never: quarantine -------------------------------------------------------
$cloud->rules(put => [{ key => 'never', status => 400, code => 'Never' }]);
$id = put('never.jpg', jpeg());
ok(wait_for(sub { (row($id) // {})->{state} // '' eq 'quarantined'
	and row($id)->{state} eq 'quarantined' }), 'refused for good: kept aside');
like(error_of($id), qr/store answered 400 Never/, 'with the reason');
my $other = put('fine.jpg', jpeg());
ok(wait_for(sub { arrived($other, jpeg()) }), 'others go on');
is($gw->unbalanced, '', 'the ledger balances');

# ---- recipes that are not allowed -------------------------------------------
for my $t (['Host' => { headers => { Host => 'x' } }, qr/Host is not allowed/],
    ['a range outside' => { body => { range => { offset => 0,
	length => 99_999_999 } } }, qr/outside/],
    ['a method' => { method => 'PATCH' }, qr/method is not/],
    ['a scheme' => { uri => 'file:///etc/passwd' }, qr/not http/]) {
	my ($what, $request, $why) = @$t;
	$cloud->rules(request => $request);
	$id = put("evil.$sent.jpg", jpeg());
	ok(wait_for(sub { error_of($id) =~ $why }), "$what is refused");
	$cloud->rules;
	ok($gw->drained(40), 'and a good recipe taken after that');
}
$cloud->rules(hosts => { default => ['elsewhere.example'] }, version => 2,
	store_url => 'http://127.0.0.2:9');
$id = put('host.jpg', jpeg());
ok(wait_for(sub { error_of($id) =~ /127\.0\.0\.2 is no host of this storage/ }),
	'a host that the storage does not have is refused');
$cloud->rules(version => 3);
ok($gw->drained(60), 'until it is right');

# ---- damage on the disk ------------------------------------------------------
$agent->stop;
my %rotten = map { $_ => put("rot$_.bin", 'r' x $_) } 5_000, 400_000;
wait_for(sub { (() = $gw->queue_ls) >= 2 });
for my $f (glob $gw->spool . '/item/*/*') {
	my $n = -s $f;
	open my $fh, '+<:raw', $f or next;
	read $fh, my $head, 3;
	seek $fh, 2500, 0;
	print $fh 'X' if $head eq 'rrr'; # one octet has turned over
	close $fh;
}
$agent->start;
for my $n (sort keys %rotten) {
	$id = $rotten{$n};
	ok(wait_for(sub { ((row($id) // {})->{state} // '') eq 'quarantined' }),
		"$n octets that were damaged on disk are put aside");
	like(error_of($id), qr/damaged/, 'with the reason');
	is((grep { /$id/ } keys %{ $cloud->objects }), 0,
		'and never become an object');
}

# ---- in parts ----------------------------------------------------------------
my $large = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 250_000;
$cloud->rules(part_size => 300_000, lost => 1);
$id = put('large.bin', $large);
ok($gw->drained(30), 'an upload in parts, begun again when the store lost it');
ok(arrived($id, $large), 'byte for byte');
is((grep { $_->{status} == 200 } $cloud->requests('PUT', qr/$id/)), 4, '4 parts');

$cloud->rules(part_size => 100_000, put => [{ delay => 0.3 }]);
$id = put('resumed.bin', $large);
ok(wait_for(sub { (() = $cloud->requests('PUT', qr/$id/)) >= 4 }),
	'some parts are there');
$agent->kill9;
$cloud->rules(part_size => 100_000);
$agent->start;
ok($gw->drained(30), 'kill -9 in the middle: it arrives');
ok(arrived($id, $large), 'byte for byte');
cmp_ok(scalar(() = $cloud->requests('PUT', qr/$id/)), '<=', 12,
	'parts that were done are not sent again');

# ---- kill -9 with many under way ---------------------------------------------
$cloud->rules(put => [{ delay => 0.2 }]);
my %many = map { my $b = "body $_ " x (1 + $_ * 50); put("m$_.bin", $b) => $b }
    1 .. 40;
wait_for(sub { (() = $cloud->requests('PUT', qr/m\d+\.bin/)) >= 3 });
$agent->kill9;
$cloud->rules;
$agent->start;
ok($gw->drained(40), 'kill -9 with many under way: all go out');
is((grep { !arrived($_, $many{$_}) } keys %many), 0, 'and arrive');
my %keys;
for my $key (keys %{ $cloud->objects }) {
	$keys{$1}{$key} = 1 if $key =~ /([0-9a-f]{32})/;
}
is((grep { keys %$_ > 1 } values %keys), 0, 'none under two keys');

# ---- one storage fails, another does not -------------------------------------
$gw->configure('camera bad' => { address => '10.9.8.7', storage => 'broken' });
$agent->reload;
$cloud->rules(put => [{ storage => 'broken', status => 500 }]);
put("b$_.bin", "b$_", device => 'bad') for 1 .. 30;
my @good = map { put("g$_.bin", "g$_") } 1 .. 10;
ok(wait_for(sub { !grep { my $i = $_; !grep { $_->{key} =~ /$i/ }
	values %{ $cloud->objects } } @good }, 15),
	'a storage that works is not held up by one that does not');
ok(wait_for(sub { $agent->new_log =~ /storage=broken failed 5 times/ }),
	'the circuit of the other opens');
sub broken { return (grep { $_->{name} eq 'broken' }
	@{ $gw->status->{agent}{storages} // [] })[0] // {} }
ok(wait_for(sub { (broken()->{circuit} // '') eq 'open'
	&& broken()->{running} <= 1 }), 'status shows it');
my $n = () = $cloud->requests('PUT', qr/broken/);
sleep 2;
cmp_ok((() = $cloud->requests('PUT', qr/broken/)) - $n, '<=', 3,
	'then one try at a time');
like(broken()->{last_error}, qr/store answered 500/, 'with the reason');
$cloud->rules;
ok($gw->drained(45), 'back again: all of it goes out at once');

# ---- a store that is gone, one that breaks off -------------------------------
$cloud->rules(put => [{ cut => 1, times => 2 }]);
$id = put('cut.bin', $large);
ok($gw->drained(40), 'a connection cut in mid-body: sent again');
ok(arrived($id, $large), 'byte for byte');

# ---- the signer --------------------------------------------------------------
$cloud->rules(token => 'another');
my @waiting = map { put("t$_.jpg", "t$_") } 1 .. 5;
ok(wait_for(sub { $agent->new_log =~ /refuses the token of \S+ \(401\)/ }),
	'a wrong token is told');
ok(wait_for(sub { error_of($waiting[0]) =~ /401/ }), 'and seen in the queue');
sleep 3;
is(logged(qr/error .*401/), 1, 'in one line, not one a try');
is($gw->ledger->{waiting}, 5, 'the files are kept');
$cloud->rules;
ok($gw->drained(60), 'they go out when it is right');

$cloud->stop;
$id = put('down.jpg', jpeg());
ok(wait_for(sub { $agent->new_log =~ /error signer .*cannot ask/ }),
	'a signer that is down is told');
ok(wait_for(sub {
	my $s = $gw->status->{agent}{signer};
	return defined $s && !$s->{ok} && $s->{last_error} =~ /cannot ask/;
}), 'and seen in the status');
$cloud->start;
ok($gw->drained(60), 'goes on when it is back');

$cloud->rules(sign => { status => 200, body => '{"results": [' , times => 1 });
$id = put('json.jpg', jpeg());
ok($gw->drained(60), 'broken JSON of the signer passes by');
like($agent->log, qr/answer is no JSON/, 'it is told');

# ---- blocked devices ---------------------------------------------------------
$cloud->rules(refuse => { 'cam-9' => { do => 'hold',
	error => 'device cam-9 is blocked' } }, blocked => ['cam-9'],
	version => 10);
$id = put('held.jpg', jpeg(), device => 'cam-9');
ok(wait_for(sub { (row($id) // {})->{state} && row($id)->{state} eq 'held' }),
	'uploads of a blocked device are held');
$agent->stop;
$cloud->rules(version => 11);
$agent->start;
ok($gw->drained(30), 'and go when it is unblocked, also over a restart');

# ---- addresses inside the site -----------------------------------------------
SKIP: {
	my $name = do { require Sys::Hostname; Sys::Hostname::hostname() };
	my $ip = inet_aton($name);
	skip('kernel: the name of this host leads to no private address', 2)
	    if !defined $ip || inet_ntoa($ip) !~
		/^(127|10|192\.168|172\.(1[6-9]|2\d|3[01])|169\.254)\./;
	$gw->configure(upload => { allow_private => 'no' });
	$agent->reload;
	$cloud->rules(store_url => "http://$name:$cloud->{port}");
	$id = put('inside.jpg', jpeg());
	ok(wait_for(sub { error_of($id) =~ /is private.*allow_private/ }),
		'a name that leads into the site is not connected to');
	$cloud->rules;
	ok($gw->drained(40), "the signer's own address is");
}

# ---- a rate ------------------------------------------------------------------
$gw->configure(upload => { rate_limit => '400 KB' });
$agent->reload;
my $t = Time::HiRes::time();
$id = put("r$_.bin", $large) for 1 .. 2;
ok($gw->drained(30), 'with a rate');
$t = Time::HiRes::time() - $t;
cmp_ok($t, '>=', 3.5, '2 MB at 400 KB/s take their time');
cmp_ok($t, '<=', 12 * Edgehaul::slowness(), 'and not much more');

# ---- at the end --------------------------------------------------------------
is($gw->unbalanced, '', 'the ledger balances');
unlike($agent->log, qr/s3cr3t|cloud-token/, 'no query and no token in the log');
$cloud->rules(put => [{ delay => 30 }]);
put('hangs.bin', $large);
wait_for(sub { $gw->status->{agent}{uploads}{running} });
ok($agent->stop, 'SIGTERM ends in time with an upload under way');
finish;
