#!/usr/bin/perl
# Firmware from the gateway's cache to clients nobody changed: ranges of all
# kinds, resumed downloads, probing by ranges; served while the fill goes on;
# a byte that is wrong on disk never leaves
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use Edgehaul::Raw;
use Test::More;
use Time::HiRes ();

my $MIB = 1 << 20;
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { firmware => { parallel_devices => 2 } });
my $fw = Edgehaul::Firmware->new($box);
my $dir = Edgehaul->dir('clients');
my %size = (b1 => 1, b8191 => 8191, b8192 => 8192, b8193 => 8193,
	m1 => $MIB, m2less => 2 * $MIB - 1, m2 => 2 * $MIB,
	m2more => 2 * $MIB + 1, m40 => 40 * $MIB + 123, cold => 3 * $MIB + 7,
	late => 2 * $MIB, gone => 16 * $MIB, never => $MIB);
my %f = map { $_ => $fw->file("$_.bin",
	Edgehaul::Firmware::octets($size{$_}, $_)) } keys %size;
my $n = 0;
$fw->release('1.' . $n++ . '.0', files => [$f{$_}]) for sort keys %size;
$fw->publish;
$fw->fill($f{$_}) for grep { !/cold|late|never/ } sort keys %size;
$fw->bell;
$box->proxy->start;
wait_for(sub { $box->get('/firmware/check?p=none')->{status} != 503 })
    or BAIL_OUT('the cache does not open');

sub path { "/firmware/b/$f{$_[0]}{sha256}" . ($_[1] // '') }
sub url { $box->url(path(@_)) }
# A GET or HEAD on a connection of its own.
sub ask {
	my ($name, %o) = @_;
	my $method = delete $o{method} // 'GET';
	my $c = Edgehaul::Raw->new($box->lan, from => $o{from}) or return {};
	my %h = (Host => 'gw', %{ $o{headers} // {} });
	$h{Range} = "bytes=$o{range}" if defined $o{range};
	$c->send("$method " . ($o{path} // path($name)) . ' HTTP/'
		. ($o{version} // '1.1') . "\r\n"
		. join('', map { "$_: $h{$_}\r\n" } sort keys %h) . "\r\n");
	return $c->response(head => $method eq 'HEAD') // {};
}
sub sha { -f $_[0] ? sha256_hex(slurp($_[0])) : 'no file' }
sub sh { my ($rc, $out, $err) = Edgehaul->run('sh', '-c', $_[0]); $rc }
sub firmware { $box->get('/-/status.json')->{json}{firmware} }

# ---- what an answer says ---------------------------------------------------
{
	my $f = $f{m1};
	my $b64 = Digest::SHA::sha256_base64($f->{content}) . '=';
	my $r = ask('m1');
	is($r->{status}, 200, 'GET');
	is(sha256_hex($r->{body}), $f->{sha256}, 'its bytes');
	my $h = $r->{headers};
	is($h->{'content-length'}, $MIB, 'length');
	is($h->{etag}, "\"$f->{sha256}\"", 'a strong ETag, the hash');
	is($h->{'repr-digest'}, "sha-256=:$b64:", 'Repr-Digest');
	is($h->{digest}, "SHA-256=$b64", 'Digest');
	is($h->{'accept-ranges'}, 'bytes', 'Accept-Ranges');
	is($h->{'content-type'}, 'application/octet-stream', 'type');
	is($h->{'cache-status'}, 'edgehaul; hit', 'Cache-Status');
	like($h->{'cache-control'}, qr/immutable/, 'immutable');
	ok(!exists $h->{'transfer-encoding'} && !exists $h->{'content-encoding'},
		'neither chunked nor encoded');
	$r = ask('m1', method => 'HEAD', headers => { Range => 'bytes=0-3' });
	is($r->{status}, 200, 'HEAD');
	is($r->{headers}{'content-length'}, $MIB, 'with the length');
	$r = ask('cold', method => 'HEAD');
	is($r->{headers}{'content-length'}, $f{cold}{size},
		'also of what is not in the cache');
	$r = ask('m1', path => path('m1', '/any/name.swu'), range => '0-9');
	is($r->{status}, 206, 'any name behind the hash');
	$r = ask('m1', version => '1.0', headers => { Host => undef // '' });
	is($r->{status}, 200, 'HTTP/1.0');
	is(length $r->{body}, $MIB, 'all of it');
	$r = ask('m1', headers => { 'Accept-Encoding' => 'gzip, br' });
	is(sha256_hex($r->{body}), $f->{sha256}, 'never encoded');
	$r = ask('m1', headers => { 'If-None-Match' => "W/\"$f->{sha256}\"" });
	is($r->{status}, 304, 'If-None-Match');
	$r = ask('m1', headers => { 'If-Match' => "\"$f->{sha256}\"" },
		range => '0-9');
	is($r->{status}, 206, 'If-Match of what it is');
	for my $tag ("W/\"$f->{sha256}\"", '"another"') {
		$r = ask('m1', headers => { 'If-Match' => $tag,
			'If-None-Match' => "\"$f->{sha256}\"" });
		is("$r->{status} " . length $r->{body}, '412 0',
			'If-Match of what it is not goes first');
	}
	$r = ask('m1', path => '/firmware/b/' . '0' x 64);
	is($r->{status}, 404, 'an unknown hash');
	$r = ask('m1', path => '/firmware/b/xyz');
	is($r->{status}, 404, 'no hash');
	$r = $box->put(path('m1'), 'x');
	is($r->{status}, 405, 'nothing is uploaded there');
}

# ---- ranges ----------------------------------------------------------------
{
	my $c = $f{m1}{content};
	my @one = (['0-0', 0, 1], ['0-', 0, $MIB], ['262143-262144', 262143, 2],
		['-5', $MIB - 5, 5], ["1000000-99999999", 1000000,
		$MIB - 1000000], ['-99999999', 0, $MIB]);
	for (@one) {
		my ($range, $from, $len) = @$_;
		my $r = ask('m1', range => $range);
		is($r->{status}, 206, "bytes=$range");
		is($r->{headers}{'content-range'}, 'bytes ' . $from . '-'
			. ($from + $len - 1) . "/$MIB", 'its place');
		ok($r->{body} eq substr($c, $from, $len), 'its bytes');
	}
	my $r = ask('m1', range => "$MIB-");
	is($r->{status}, 416, 'behind the end');
	is($r->{headers}{'content-range'}, "bytes */$MIB", 'the length is told');
	is($r->{body}, '', 'and nothing else');
	$r = ask('m1', range => '5-9,100-109,90-100,500000-500000');
	is($r->{status}, 206, 'several');
	my ($b) = ($r->{headers}{'content-type'} // '')
	    =~ m{^multipart/byteranges; boundary=(\w+)$};
	my @parts = $r->{body} =~ m{--$b\r\nContent-Type: [^\r]+\r\n
		Content-Range:\ bytes\ (\d+-\d+)/$MIB\r\n\r\n}gx;
	is_deeply(\@parts, ['5-9', '90-109', '500000-500000'],
		'sorted and merged');
	ok(index($r->{body}, "\r\n\r\n" . substr($c, 90, 20)
		. "\r\n--$b\r\n") > 0, 'their bytes');
	like($r->{body}, qr/\r\n--$b--\r\n\z/, 'ended');
	$r = ask('m1', range => join ',', map { 2 * $_ . '-' . 2 * $_ } 0 .. 64);
	is($r->{status}, 200, 'too many: the whole');
	for (["\"$f{m1}{sha256}\"", 206], ["W/\"$f{m1}{sha256}\"", 200],
		['"other"', 200]) {
		$r = ask('m1', range => '1-2', headers => { 'If-Range' => $_->[0] });
		is($r->{status}, $_->[1], "If-Range: " . substr $_->[0], 0, 6);
	}
}

# ---- the camera that probes by ranges until 416 ----------------------------
# One connection a request, lower-case host without a port; the length is
# found by 8 KiB probes, then 1 MiB ranges are fetched until 416.
sub camera {
	my ($name) = @_;
	my ($requests, %bad) = (0);
	my $get = sub {
		my ($from, $to) = @_;
		$requests++;
		my $c = Edgehaul::Raw->new($box->lan) or die;
		$c->send('GET ' . path($name) . " HTTP/1.1\r\nhost: 127.0.0.1"
			. "\r\nRange: bytes=$from-$to\r\n"
			. "Connection: close\r\n\r\n");
		my $r = $c->response or die 'no answer';
		$bad{$r->{status}}++ if $r->{status} !~ /^(206|416)$/;
		$bad{body}++ if $r->{status} == 416 && length $r->{body};
		return $r;
	};
	my ($low, $high) = (0, 2 * $MIB);
	while ($get->($high, $high + 8191)->{status} == 206) {
		$low = $high;
		$high *= 2;
	}
	while ($high - $low > 8192) {
		my $mid = $low + int(($high - $low) / 16384) * 8192;
		$mid = $low + 8192 if $mid == $low;
		if ($get->($mid, $mid + 8191)->{status} == 206) { $low = $mid }
		else { $high = $mid }
	}
	my $r = $get->($low, $low + 8191);
	my $size = $low + length $r->{body};
	my $sum = Digest::SHA->new(256);
	for (my $at = 0;; $at += $MIB) {
		$r = $get->($at, $at + $MIB - 1);
		last if $r->{status} == 416;
		$sum->add($r->{body});
	}
	return ($size, $sum->hexdigest, join(',', %bad), $requests);
}
for my $name (grep { !/cold|late|gone|never/ } sort { $size{$a} <=> $size{$b} }
	keys %size) {
	my ($size, $sum, $bad, $n) = camera($name);
	is($size, $size{$name}, "camera: $size{$name} octets found");
	is($sum, $f{$name}{sha256}, "fetched by $n requests");
	is($bad, '', 'with 206 and 416 only');
}

# ---- download tools --------------------------------------------------------
SKIP: {
	need(3, 'curl');
	my $u = url('m40');
	sh("curl -s -o $dir/curl $u");
	is(sha("$dir/curl"), $f{m40}{sha256}, 'curl');
	spit("$dir/part", substr $f{m40}{content}, 0, 12_345_678);
	sh("curl -s -C - -o $dir/part $u");
	is(sha("$dir/part"), $f{m40}{sha256}, 'curl -C -');
	sh("curl -s --http1.0 -o $dir/ten " . url('gone'));
	is(sha("$dir/ten"), $f{gone}{sha256}, 'curl --http1.0');
}
SKIP: {
	need(2, 'wget');
	spit("$dir/wget", substr $f{gone}{content}, 0, 5);
	sh("wget -q -c -O $dir/wget " . url('gone'));
	is(sha("$dir/wget"), $f{gone}{sha256}, 'wget -c');
	is(sh("wget -q -c -O $dir/wget " . url('gone')), 0,
		'wget -c of what it has');
}
SKIP: {
	need(1, 'busybox');
	spit("$dir/busy", substr $f{gone}{content}, 0, 1_999_999);
	sh("busybox wget -q -c -O $dir/busy " . url('gone'));
	is(sha("$dir/busy"), $f{gone}{sha256}, 'busybox wget -c');
}
SKIP: {
	need(3, 'aria2c');
	my ($rc, $out) = Edgehaul->run('aria2c', '-q', '-x8', '-s8', '-k1M',
		'--checksum=sha-256=' . $f{m40}{sha256}, '-d', $dir, '-o', 'aria',
		url('m40'));
	is($rc, 0, 'aria2c -x8');
	is(sha("$dir/aria"), $f{m40}{sha256}, 'its file');
	(undef, $out) = Edgehaul->run('aria2c', '-x2', '-d', $dir, '-o', 'aria2',
		'--log=-', '--log-level=info', url('m1'));
	like($out, qr/(Digest|Verification|checksum|Checksum)/,
		'it saw our digest');
}
SKIP: {
	need(1, 'nbdkit', 'nbdcopy');
	my ($plugin) = Edgehaul->run('nbdkit', '--dump-plugin', 'curl');
	skip('no nbdkit curl plugin (Debian: nbdkit)', 1) if $plugin != 0;
	Edgehaul->run('nbdkit', '-U', '-', 'curl', 'url=' . url('m2more'),
		'--run', "nbdcopy --request-size=65536 \$uri $dir/nbd");
	is(sha("$dir/nbd"), $f{m2more}{sha256}, 'nbdcopy over ranges');
}

# ---- served while the fill goes on -----------------------------------------
{
	my @pid;
	for my $i (1 .. 3) {
		push @pid, fork // die;
		next if $pid[-1];
		exec 'curl', '-s', '-o', "$dir/cold$i", url('cold');
	}
	my %left = map { $_ => 1 } @pid;
	$fw->serve([$f{cold}], sub {
		delete $left{$_} for grep { waitpid($_, 1) != 0 } keys %left;
		return !%left;
	}, count => 2);
	is(sha("$dir/cold$_"), $f{cold}{sha256}, "cold client $_") for 1 .. 3;
	cmp_ok($fw->{wants}, '<=', 13 * 2, 'each slice wanted for all at once');
	is(ask('cold')->{headers}{'cache-status'}, 'edgehaul; hit', 'then a hit');
	# a range at the end takes nothing else
	$fw->{wants} = 0;
	$fw->rings;
	my $pid = fork // die;
	if (!$pid) {
		exec 'curl', '-s', '-r', '-65536', '-o', "$dir/late",
		    url('late');
	}
	$fw->serve([$f{late}], sub { waitpid($pid, 1) != 0 });
	is(slurp("$dir/late"), substr($f{late}{content}, -65536),
		'a cold range at the end');
	my ($filled) = split ' ', $fw->tool('row', $f{late}{sha256});
	is($filled, 262144, 'for one slice');
	# the agent knows that no origin has it
	$fw->rings;
	my $c = Edgehaul::Raw->new($box->lan);
	$c->send('GET ' . path('late') . " HTTP/1.1\r\nHost: x\r\n\r\n");
	ok(wait_for(sub { grep { /^want/ } $fw->rings }), 'wanted');
	$fw->ring("trouble $f{late}{sha256} 7");
	my $r = $c->response;
	is($r->{status}, 503, 'no origin: 503');
	is($r->{headers}{'retry-after'}, 7, 'and when to come back');
	my $t0 = Time::HiRes::time();
	is(ask('late')->{status}, 503, 'the next one is told at once');
	cmp_ok(Time::HiRes::time() - $t0, '<', 3, 'without waiting');
	is(ask('late', range => '-100')->{status}, 206,
		'but what is there is served');
}

# ---- a byte that is wrong on disk ------------------------------------------
sub flip {
	my ($name, $at) = @_;
	open my $fh, '+<:raw', $fw->blob($f{$name}) or die $!;
	seek $fh, $at, 0;
	read $fh, my $octet, 1;
	seek $fh, $at, 0;
	print $fh chr(255 ^ ord $octet);
	close $fh;
}
{
	my $damaged = firmware()->{cache}{damaged};
	for my $at (0, 262143, 262144, 700_000, $MIB - 1) {
		$fw->{wants} = 0;
		$fw->rings;
		flip('m1', $at);
		my $pid = fork // die;
		exec 'curl', '-s', '-o', "$dir/flip", url('m1') if !$pid;
		$fw->serve([$f{m1}], sub { waitpid($pid, 1) != 0 });
		is(sha("$dir/flip"), $f{m1}{sha256}, "flipped $at: right bytes");
		is($fw->{wants}, 1, 'for one slice fetched again');
	}
	is(firmware()->{cache}{damaged}, $damaged + 5, 'counted');
	# also while nobody serves it, and with the WAN down: never sent
	$fw->rings;
	$box->proxy->stop;
	flip('b8192', 5000);
	$box->proxy->start;
	wait_for(sub { $box->get('/firmware/check?p=none')->{status} != 503 });
	$fw->ring("trouble $f{b8192}{sha256} 9");
	is(ask('b8192')->{status}, 503, 'after a restart: not sent');
	like($box->proxy->log, qr/$f{b8192}{sha256} slice=0 is damaged/, 'logged');
	is(ask('b8193')->{status}, 200, 'others are served');
	$fw->fill($f{b8192});
	ok(wait_for(sub { ask('b8192')->{status} == 200 }), 'repaired');
}

# ---- turns -----------------------------------------------------------------
# A client that reads a little of a large blob and stays.
sub slow {
	my ($from, $name, %o) = @_;
	my $c = Edgehaul::Raw->new($box->lan, from => $from);
	$c->send('GET ' . path($name) . " HTTP/1.1\r\nHost: x\r\n"
		. ($o{range} ? "Range: bytes=$o{range}\r\n" : '') . "\r\n");
	return $c;
}
{
	my @c = (slow('127.0.0.11', 'm40'), slow('127.0.0.12', 'm40'));
	ok(wait_for(sub { firmware()->{downloads}{active_devices} == 2 }),
		'two devices download');
	my $r = ask('m40', from => '127.0.0.13', range => '0-9');
	is($r->{status}, 503, 'a third is sent away');
	like($r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'until then');
	is(ask('m1', from => '127.0.0.11', range => '0-9')->{status}, 206,
		'a second connection of the first');
	is(ask('m1', from => '127.0.0.13', method => 'HEAD')->{status}, 200,
		'HEAD takes no turn');
	is(ask('m1', from => '127.0.0.13', range => '99999999-')->{status}, 416,
		'nor does 416');
	is($box->get('/firmware/check?p=cam-x&v=1.0.0')->{content}
		=~ /^status=(\w+)/ && $1, 'wait', 'a check says so');
	# 11 goes, comes back after 14 took its place: a continuation
	undef $c[0];
	wait_for(sub { firmware()->{downloads}{active_devices} < 2 }, 20);
	ok(wait_for(sub {
		ask('m40', from => '127.0.0.13', range => '0-9')->{status} == 206
	}, 20), 'who waited gets the place');
	push @c, slow('127.0.0.13', 'm40');
	is(ask('m40', from => '127.0.0.11', range => '0-9')->{status}, 503,
		'the first may not begin again');
	is(ask('m40', from => '127.0.0.11', range => '1000-1009')->{status},
		206, 'but go on');
}

# ---- blocked during a download ---------------------------------------------
{
	ok(wait_for(sub { firmware()->{downloads}{active_devices} == 0 }),
		'all turns are over');
	my $drain = sub {
		my ($c, $got, $buf) = (shift, 0);
		my $s = $c->socket;
		$s->blocking(1);
		while (my $n = sysread $s, $buf, 1 << 20) { $got += $n }
		return $got;
	};
	ask('m1', from => '127.0.0.31', path => '/firmware/check?p=x&id=SN-B');
	my ($bad, $good) = (slow('127.0.0.31', 'm40'), slow('127.0.0.32', 'm40'));
	ok(wait_for(sub { firmware()->{downloads}{active_devices} == 2 }),
		'two devices download');
	# the third waits for a first octet that no origin gives
	my $wait = Edgehaul::Raw->new($box->lan, from => '127.0.0.31');
	$wait->send('GET ' . path('never') . " HTTP/1.1\r\nHost: x\r\n\r\n");
	ok(wait_for(sub { firmware()->{downloads}{running} == 3 }),
		'one waits for the origin');
	my $began = Time::HiRes::time();
	$fw->ring('blocked {"devices":["SN-B"]}');
	cmp_ok($drain->($bad), '<', $f{m40}{size}, 'a blocked one is cut');
	cmp_ok(Time::HiRes::time() - $began, '<', 1 * Edgehaul::slowness(),
		'within a second');
	is(($wait->response // {})->{status}, 403, 'who waited is told');
	is(ask('m1', from => '127.0.0.31')->{status}, 403, 'and refused');
	is(sha256_hex(($good->response // {})->{body} // ''), $f{m40}{sha256},
		'the other device gets all of it');
	like($box->proxy->log, qr/cut: the device is blocked/, 'logged');
	$fw->ring('blocked {"devices":[]}');
	ok(wait_for(sub { ask('m1', from => '127.0.0.31')->{status} == 200 }),
		'until it is let go');
	$fw->rings;
}

# ---- revoked during a download ---------------------------------------------
{
	ok(wait_for(sub { firmware()->{downloads}{active_devices} == 0 }),
		'all turns are over');
	my $c = slow('127.0.0.21', 'gone');
	ok(wait_for(sub { firmware()->{downloads}{active_devices} == 1 }),
		'one downloads');
	push @{ $fw->{revoked} }, $f{gone}{sha256};
	$fw->publish;
	my ($left, $buf) = (1, '');
	my $got = 0;
	my $s = $c->socket;
	$s->blocking(1);
	while (my $n = sysread $s, $buf, 1 << 20) { $got += $n }
	cmp_ok($got, '<', $f{gone}{size}, 'cut');
	is(ask('gone')->{status}, 410, 'and gone');
	is(ask('gone', method => 'HEAD')->{status}, 410, 'HEAD, too');
}

# ---- room is made, but not of what is being read --------------------------
{
	my $c = slow('127.0.0.21', 'm40');
	my $now = firmware()->{cache};
	cmp_ok($now->{blobs}, '>', 5, 'several blobs');
	$fw->ring('room ' . (2 * 2**30 - $size{m40})); # all but m40 must go
	ok(wait_for(sub { firmware()->{cache}{blobs} == 1 }), 'others are removed')
	    or diag(json_encode(firmware()->{cache}));
	ok(!-e $fw->blob($f{m1}), 'files, too');
	like($box->proxy->log, qr/removed blobs=\d+ bytes=\d+/, 'logged');
	is(sha256_hex(($c->response // {})->{body} // ''), $f{m40}{sha256},
		'the one with a reader stays, to its last octet');
	$fw->rings;
	my $pid = fork // die;
	exec 'curl', '-s', '-o', "$dir/again", url('m1') if !$pid;
	$fw->serve([$f{m1}], sub { waitpid($pid, 1) != 0 });
	is(sha("$dir/again"), $f{m1}{sha256}, 'what was removed comes back');
}

# ---- what is known of it ---------------------------------------------------
{
	$box->get('/firmware/check?p=cam-x&v=1.2.3&id=cam-9&hw=1');
	my ($rc, $out) = $box->ctl('firmware', 'devices', '--json');
	my %d = map { my $d = json_decode($_); ($d->{id} => $d) }
	    split /\n/, $out;
	is($d{'cam-9'}{version}, '1.2.3', 'what a device runs');
	is($d{'127.0.0.1'}{fetched_version}, '1.7.0',
		'what another one fetched') or diag($out);
	ok(wait_for(sub { $fw->tool('devices') =~ /"cam-9"/ }), 'kept');
	$box->proxy->kill9->start;
	ok(wait_for(sub { ($box->ctl('firmware', 'devices'))[1] =~ /cam-9/ }),
		'over a restart');
}
ok($box->proxy->stop, 'the proxy stops');
finish;
