#!/usr/bin/perl
# What real cameras do, against the real proxy: habits of their HTTP clients,
# broken forms, passwords, rules of a camera, refusals that arrive
use strict;
use warnings;
use Digest::MD5 qw(md5_base64);
use Digest::SHA qw(sha256_base64);
use Edgehaul;
use IPC::Open2;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes ();

my $jpeg = jpeg();
my $dir = Edgehaul->dir('cameras');
spit("$dir/password", "s3cret: word\n");
spit("$dir/blank", "\n");
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => {
		spool => { max_size => '64 MB' },
		limits => { head_timeout => '2 s' },
		'camera dock' => { address => '127.0.0.5 127.0.0.6',
			max_upload => '50 KB', repeat_window => 'none' },
		'camera gate' => { address => '127.0.0.7', user => 'gate',
			password_file => "$dir/password" },
		'camera roof' => { user => 'roof',
			password_file => "$dir/password" },
		'camera blank' => { user => 'blank',
			password_file => "$dir/blank" },
	});
$box->proxy->start;

# One whose uploads do not live long: looked at again at the end.
my $aged = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { spool => { max_age => '10 s' } });
$aged->proxy->start;
is($aged->put('/upload/old/a.jpg', $jpeg)->{status}, 201, 'one to grow old');

sub accepted { $box->get('/-/status.json')->{json}{ledger}{accepted} }
# Octets on a new connection: the first answer, with `closed`.
sub answer {
	my ($bytes, %o) = @_;
	my $r = Edgehaul::request_bytes($box->lan, $bytes, quiet => 0.3,
		timeout => 10, %o) or return {};
	return { %{ $r->{answers}[0] // {} }, closed => $r->{closed},
		interim => $r->{interim}, n => scalar @{ $r->{answers} } };
}
sub status { (answer(@_)->{status}) // 0 }
sub reconfigure {
	my (%change) = @_;
	$box->configure(%change);
	$box->proxy->reload or fail('the proxy reloads');
}

# ---- the client of NuttX and its kin ---------------------------------------
{
	my $t0 = Time::HiRes::time();
	my $r = answer("PUT /upload/nut/a b \xc3\xa9 100%25.jpg HTTP/1.1\r\n"
		. "host: gateway\r\nContent-Length: " . length($jpeg)
		. "\r\nConnection: close\r\nUser-Agent: NuttX/12\r\n\r\n$jpeg");
	is($r->{status}, 201, 'NuttX: lower-case host, raw blank and UTF-8');
	is($r->{json}{sha256}, sha256_hex($jpeg), 'its bytes');
	ok($r->{closed}, 'Connection: close is honoured');
	is($r->{n}, 1, 'one answer and nothing behind it');
	cmp_ok(Time::HiRes::time() - $t0, '<', 5, 'at once: it reads until EOF');
	ok(!(grep { length("$_: $r->{headers}{$_}") > 200 }
		keys %{ $r->{headers} }), 'no header line of over 200 octets');
	my $row;
	wait_for(sub { ($row) = grep { $_->{id} eq $r->{json}{id} }
		$box->queue_ls });
	is($row->{name}, "a b \x{e9} 100%.jpg", 'the name, decoded once');
	is(status("PUT //upload//nut//(null) HTTP/1.1\r\nhost: x\r\n"
		. "Content-Length: 1\r\n\r\nx"), 201, 'slashes, "(null)"');
}

# ---- framing as devices have it --------------------------------------------
{
	my $put = "PUT /upload/f/%s HTTP/1.%d\r\nHost: x\r\n";
	my $r = answer(sprintf($put, 'crlf', 1) . "Content-Length: 4\r\n\r\n"
		. "\r\nab\r\n");
	is($r->{json}{size}, 4, 'a stray CRLF: the declared octets are kept');
	is(status(sprintf($put, 'short', 1) . "Content-Length: 9\r\n\r\nabc",
		eof => 1), 400, 'shorter than declared: 400');
	is(status(sprintf($put, 'empty', 1) . "Content-Length: 0\r\n\r\n"),
		201, 'an empty body is kept');
	is((grep { $_->{name} eq 'f' } @{ $box->status->{cameras} })[0]{empty},
		1, 'and counted as empty');
	is(status(sprintf($put, 'none', 1) . "\r\n"), 411, 'no length: 411');
	is(status(sprintf($put, 'close', 0) . "\r\nabc", eof => 1), 411,
		'HTTP/1.0 without a length: 411 by default');
	reconfigure(listen => { close_delimited => 'yes' });
	$r = answer(sprintf($put, 'close', 0) . "\r\nabc", eof => 1);
	is($r->{status}, 201, 'close_delimited = yes: its end is the end');
	is($r->{json}{size}, 3, 'with all of it');
	is(status("PUT /upload/f/x HTTP/1.1\r\nHost: x\r\n\r\nabc", eof => 1),
		411, 'but not in HTTP/1.1');

	my $c = Edgehaul::Raw->new($box->lan);
	$c->send(sprintf($put, 'expect', 1)
		. "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	is($c->response(interim => 1)->{status}, 100, 'Expect: 100 Continue');
	$c->send('abc');
	is($c->response->{status}, 201, 'then 201');
	$r = answer(sprintf($put, 'big', 1)
		. "Expect: 100-continue\r\nContent-Length: 9999999999999\r\n\r\n",
		count => 1);
	is($r->{status}, 413, 'too large is refused before the body');
	is($r->{interim}, 0, 'and no 100 was sent');

	# 2 KB a second and a pause
	$c = Edgehaul::Raw->new($box->lan);
	$c->send(sprintf($put, 'slow', 1) . "Content-Length: 6000\r\n\r\n");
	$c->send('x' x 1000), Time::HiRes::sleep($_) for (0.5) x 3, 3, 0.5, 0;
	is($c->response->{status}, 201, 'slow, with a pause of seconds');
}

# ---- forms ------------------------------------------------------------------
my $xml = '<EventNotificationAlert><eventType>VMD</eventType>'
    . '</EventNotificationAlert>';
my $b = 'boundary';
sub part {
	my ($type, $name, $body, $nl) = @_;
	$nl //= "\r\n";
	return join($nl, "--$b", "Content-Disposition: form-data; name=\"$name\";"
		. " filename=\"$name\"", "Content-Type: $type", '', '')
	    . $body . $nl;
}
my $other = "second\r\n--boundar\n--bound file\r\n";
# what, body, Content-Type, files
my @forms = (
	['a plain form', part('image/jpeg', 'a.jpg', $jpeg) . "--$b--\r\n",
		"multipart/form-data; boundary=$b", $jpeg],
	['quoted boundary, preamble, epilogue', "hello\r\n"
		. part('image/jpeg', 'a.jpg', $jpeg) . "--$b--\r\nbye\r\n--$b\r\n",
		"multipart/form-data; boundary=\"$b\"", $jpeg],
	['doubled delimiters', "--$b\r\n" . part('image/jpeg', 'a', $jpeg)
		. "--$b\r\n--$b--\r\n", "multipart/form-data; boundary=$b", $jpeg],
	['an empty boundary parameter', part('image/jpeg', 'a', $jpeg)
		. "--$b--\r\n", 'multipart/form-data; boundary=', $jpeg],
	['no boundary parameter', part('image/jpeg', 'a', $jpeg)
		. "--$b--\r\n", 'multipart/form-data', $jpeg],
	['LF only', part('image/jpeg', 'a', $jpeg, "\n") . "--$b--\n",
		"multipart/form-data; boundary=$b", $jpeg],
	['LF CR', part('image/jpeg', 'a', $jpeg, "\n\r") . "--$b--\n\r",
		"multipart/form-data; boundary=$b", $jpeg],
	['junk among the headers', "--$b\r\nrubbish \x01\r\n: none\r\n"
		. substr(part('image/jpeg', 'a', $jpeg), length("--$b\r\n"))
		. "--$b--\r\n", "multipart/form-data; boundary=$b", $jpeg],
	['images between XML', part('application/xml', 'MoveDetection.xml', $xml)
		. part('image/jpeg', 'a.jpg', $jpeg)
		. part('text/xml; charset="UTF-8"', 'MoveDetection.xml', $xml)
		. part('image/jpeg', 'b.jpg', $other) . "--$b--\r\n",
		"multipart/form-data; boundary=$b", $jpeg, $other],
	['a large one', part('image/jpeg', 'a.jpg', $jpeg x 40)
		. part('image/jpeg', 'b.jpg', 'x' x 3_000_000) . "--$b--\r\n",
		"multipart/form-data; boundary=$b", $jpeg x 40, 'x' x 3_000_000],
);

# What is wrong with the answer to a form with these files, or ''.
sub judge {
	my ($r, @files) = @_;
	return 'no answer' if !$r->{status};
	return "status $r->{status}: $r->{body}" if $r->{status} !~ /^20[01]$/;
	my $list = $r->{json}{uploads} // [$r->{json}];
	return @$list . ' files' if @$list != @files;
	for (0 .. $#files) {
		return "file $_ is not what was sent"
		    if $list->[$_]{sha256} ne sha256_hex($files[$_]);
	}
	return '';
}
sub form_request {
	my ($device, $body, $type) = @_;
	return "POST /upload/$device/snap HTTP/1.1\r\nHost: x\r\n"
	    . "Content-Type: $type\r\nContent-Length: " . length($body)
	    . "\r\nConnection: close\r\n\r\n$body";
}
my $n = 0;
srand(4711);
for (@forms) {
	my ($what, $body, $type, @files) = @$_;
	$n++;
	is(judge(answer(form_request("form-$n", $body, $type)), @files), '',
		"form: $what");
	next if length $body > 500_000;
	is(judge(answer(form_request("form-$n", $body, $type),
		pieces => 700 + int rand 3000, pause => 0.001), @files), '',
		"form: $what, cut");
}
for (['no last delimiter', part('image/jpeg', 'a', $jpeg), 400],
	['no file', "--$b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n"
		. "y\r\n--$b--\r\n", 400],
	['10,000 parts', "--$b\r\n\r\n\r\n" x 10_000 . "--$b--\r\n", 413],
	['a part with endless headers', "--$b\r\n" . 'x: y' x 5000, 400]) {
	my ($what, $body, $want) = @$_;
	my $before = accepted();
	is(status(form_request('bad', $body,
		"multipart/form-data; boundary=$b")), $want, "form: $what");
	is(accepted(), $before, 'nothing of it is kept');
}
is(status(form_request('bad', 'x', 'multipart/form-data; boundary='
	. 'x' x 71)), 400, 'form: a boundary of 71 octets');

# What the files of a form are called.
{
	my @names = (
		['name="x"; filename="a.jpg"', 'a.jpg'],
		['name="x; filename=no"; filename="a;b.jpg"', 'a;b.jpg'],
		["name=\"x\"; filename*=UTF-8''caf%C3%A9.jpg", "caf\x{e9}.jpg"],
		["name=\"x\";\r\n filename=\"folded.jpg\"", 'folded.jpg'],
		["name=\"x\"; filename=\"caf\xe9-1.jpg\"", 'caf_-1.jpg'],
		['name="x"; filename="../../etc/passwd"', 'passwd'],
		['name="x"; filename=".."', 'upload'],
		['name="x"; filename=""', 'snap'],
		['name="x"; filename="C:\\dir\\b.jpg"', 'b.jpg'],
		['name="x"; filename="' . "\xc3\xa9" x 200 . '"', "\x{e9}" x 127],
	);
	my $body = join '', map { "--b\r\nContent-Disposition: form-data; "
		. "$_->[0]\r\nContent-Type: image/jpeg\r\n\r\nx\r\n" } @names;
	$body .= "--b\r\nContent-Disposition: form-data; filename=none\r\n\r\n"
	    . "--b--\r\n";
	my $r = answer(form_request('form-names', $body,
		'multipart/form-data; boundary=b'));
	is($r->{status}, 201, 'a form with odd names');
	my @got;
	wait_for(sub { @got = map { $_->{name} } grep { $_->{device} eq 'form-names' }
		$box->queue_ls; @got == @names + 1 });
	for my $name (map { $_->[1] } @names) {
		ok((grep { $_ eq $name } @got),
			"form: the name $name" =~ s/[^ -~]/?/gr);
	}
	is($r->{json}{uploads}[-1]{size}, 0, 'a part without a body is empty');
	for (md5_base64($body), md5_base64('x')) {
		my $before = accepted();
		my $r = form_request('form-md5', $body =~ s/filename=none/$&-/r,
			'multipart/form-data; boundary=b');
		$r =~ s/^Connection/Content-MD5: $_==\r\nConnection/m;
		is(status($r), 400, 'Content-MD5 of another form');
		is(accepted(), $before, 'nothing of it is kept');
	}
	my $right = form_request('form-md5', $body,
		'multipart/form-data; boundary=b');
	$right =~ s/^Connection/"Digest: md5=" . md5_base64($body)
	    . "==\r\nConnection"/me;
	like(status($right), qr/^20[01]$/, 'the digest of this one');
}

# ---- digests, conditions, repeats -------------------------------------------
sub put { my $r = $box->put(@_); return $r ? $r->{status} : 0 }
is(put('/upload/d/a', 'abc', headers => ['Content-MD5: '
	. md5_base64('abc') . '==']), 201, 'Content-MD5 that fits');
is(put('/upload/d/b', 'abd', headers => ['Content-MD5: '
	. md5_base64('abc') . '==']), 400, 'one that does not');
for (['Repr-Digest', 'sha-256=:%s=:'], ['Digest', 'SHA-256=%s=']) {
	my ($name, $form) = @$_;
	is(put("/upload/d/$name", 'abc', headers => ["$name: "
		. sprintf $form, sha256_base64('abc')]), 201, "$name that fits");
	is(put("/upload/d/$name-x", 'abd', headers => ["$name: "
		. sprintf $form, sha256_base64('abc')]), 400, 'one that does not');
}
is(put('/upload/d/sha', 'abc', headers => ['Digest: sha=' . 'A' x 27 . '=']),
	400, 'SHA-1 that does not fit');
is(put('/upload/d/two', 'abc', headers => ['Digest: md5=' . md5_base64('abc')
	. '==', 'Digest: sha-256=' . sha256_base64('x') . '=']), 400,
	'the second line counts as well');
is(put('/upload/d/odd', 'abc', headers => ['Digest: sha-256:'
	. sha256_base64('abc') . '=']), 400, 'one that cannot be read');
{
	my $first = $box->put('/upload/r/same.jpg', $jpeg);
	my $again = $box->put('/upload/r/same.jpg', $jpeg);
	is("$first->{status} $again->{status}", '201 200', 'a repeat is 200');
	is($again->{json}{id}, $first->{json}{id}, 'and the same upload');
	is($again->{headers}{etag}, '"' . sha256_hex($jpeg) . '"', 'ETag');
	is(put('/upload/r2/same.jpg', $jpeg), 201, 'not of another device');
	is(put('/upload/dock/same.jpg', 'x', from => '127.0.0.5'), 201,
		"a camera's repeat_window = none: the first") for 1, 2;
	reconfigure(spool => { repeat_window => '0 s' });
	is(put('/upload/r/same.jpg', $jpeg), 201, 'repeat_window = 0 s: 201');
	reconfigure(spool => { repeat_window => '10 min' },
		'camera dock' => { address => '127.0.0.5 127.0.0.6',
			max_upload => '50 KB', repeat_window => '1 h' });
	is(put('/upload/dock/same.jpg', 'x', from => '127.0.0.5'), 200,
		"a camera's repeat_window = 1 h");
	ok(wait_for(sub { put('/upload/r/same.jpg', 'y' . rand,
		headers => ['If-None-Match: *']) == 412 }),
		'If-None-Match: * while one of that name waits: 412');
	is(put('/upload/r/new.jpg', 'y', headers => ['If-None-Match: *']), 201,
		'else it is taken');
}

# ---- names that come again --------------------------------------------------
sub rows { my $n = shift; grep { $_->{name} eq $n } $box->queue_ls }
{
	put('/upload/s/keep.jpg', "v$_") for 1, 2;
	ok(wait_for(sub { rows('keep.jpg') == 2 }), 'keep-both: both wait');
	reconfigure(spool => { on_same_name => 'replace-waiting' });
	put('/upload/s/repl.jpg', "v$_") for 1, 2, 3;
	ok(wait_for(sub { my @r = rows('repl.jpg');
		@r == 1 && $r[0]{sha256} eq sha256_hex('v3') }),
		'replace-waiting: the newest waits');
	is($box->unbalanced, '', 'the ledger balances');
	reconfigure(spool => { on_same_name => 'reject' });
	is(put('/upload/s/rej.jpg', 'v1'), 201, 'reject: the first is taken');
	ok(wait_for(sub { put('/upload/s/rej.jpg', 'v' . rand) == 409 }),
		'the second is 409');
	is(put('/upload/s2/rej.jpg', 'v1'), 201, 'that of another device not');
	reconfigure(spool => { on_same_name => 'keep-both' });
}

# ---- whose address it is ----------------------------------------------------
is(put('/upload/dock/a', 'x', from => '127.0.0.5'), 201, 'its own address');
is(put('/upload/else/a', 'x', from => '127.0.0.6'), 403,
	'an address of a camera with the name of another');
{
	my $r = $box->put('/snap.jpg', 'dock!', from => '127.0.0.6');
	ok(wait_for(sub { grep { $_->{id} eq $r->{json}{id}
		&& $_->{device} eq 'dock' } $box->queue_ls }),
		'the address names the device');
	is(put('/upload/dock/b', 'x' x 60_000, from => '127.0.0.5'), 413,
		"over the camera's own max_upload");
}
reconfigure(listen => { known_only => 'yes' });
is(put('/upload/x/a', 'x'), 403, 'known_only: others are refused');
is(put('/upload/dock/c', 'x', from => '127.0.0.5'), 201, 'cameras are not');
is(put('/upload/roof/c', 'x', from => '127.0.0.9'), 401,
	'a name with a password is known when it gives it');
is(put('/upload/roof/c', 'x', from => '127.0.0.9', headers =>
	['Authorization: Basic ' . encode_base64('roof:s3cret: word', '')]), 201,
	'from any address');
is(put('/upload/blank/c', 'x', from => '127.0.0.9', headers =>
	['Authorization: Basic ' . encode_base64('blank:', '')]), 401,
	'an empty password file lets nobody in');
like($box->proxy->log, qr/camera blank.*its first line is empty/,
	'and the log says why');
reconfigure(listen => { known_only => 'no' });

# ---- passwords ---------------------------------------------------------------
{
	spit("$dir/body", $jpeg);
	my @curl = ('curl', '-s', '-o', "$dir/out", '-w', '%{http_code}',
		'--interface', '127.0.0.7', '-T', "$dir/body");
	my $send = sub {
		my ($rc, $out) = Edgehaul->run(@curl, @_,
			$box->url('/upload/gate/' . ++$n . '.jpg'));
		return $out;
	};
	SKIP: {
		need(5, 'curl');
		is($send->(), 401, 'without a password: 401 (after the whole body)');
		is($send->('--basic', '-u', 'gate:s3cret: word'), 201, 'Basic');
		is($send->('--basic', '-u', 'gate:wrong'), 401, 'a wrong one');
		is($send->('--digest', '-u', 'gate:s3cret: word'), 201,
			'Digest as curl chooses');
		is($send->('--digest', '-u', 'gate:nope'), 401, 'a wrong one');
	}

	# by hand, each algorithm
	for my $algorithm ('SHA-256', 'MD5') {
		my $hash = $algorithm eq 'MD5' ? \&Digest::MD5::md5_hex
		    : \&sha256_hex;
		my $c = Edgehaul::Raw->new($box->lan, from => '127.0.0.7');
		$c->send("PUT /upload/gate/$algorithm HTTP/1.1\r\nHost: x\r\n"
			. "Content-Length: 3\r\n\r\nabc");
		1 while index($c->rest, "\r\n\r\n") < 0 && $c->fill;
		my ($nonce) = $c->rest
		    =~ /algorithm=$algorithm,.*?nonce="([^"]+)"/;
		ok($nonce, "$algorithm is offered") or next;
		my $ha1 = $hash->('gate:edgehaul:s3cret: word');
		my $ha2 = $hash->("PUT:/upload/gate/$algorithm");
		my $response = $hash->("$ha1:$nonce:00000001:c0ffee:auth:$ha2");
		is(put("/upload/gate/$algorithm", 'abc', from => '127.0.0.7',
			headers => ['Authorization: Digest username="gate", '
			. 'realm="edgehaul", algorithm=' . $algorithm
			. ", nonce=\"$nonce\", nc=00000001, cnonce=\"c0ffee\", "
			. "qop=auth, uri=\"/upload/gate/$algorithm\", "
			. "response=\"$response\""]), 201, "Digest $algorithm");
	}
}
unlike($box->proxy->log, qr/s3cret/, 'the password is in no log');

# ---- refusals arrive ----------------------------------------------------------
# Send 20 MB whatever happens, then read.
sub refused {
	my ($path, %o) = @_;
	my $c = Edgehaul::Raw->new($box->lan, from => $o{from});
	my $size = 20 << 20;
	$c->send("PUT $path HTTP/1.1\r\nHost: x\r\nContent-Length: $size\r\n"
		. ($o{head} // '') . "\r\n");
	for (1 .. 20) {
		$c->send('x' x (1 << 20)) or return 'the connection broke';
	}
	my $r = $c->response or return 'no answer';
	return "$r->{status} $r->{headers}{connection}";
}
is(refused('/upload/dock/x', from => '127.0.0.5'), '413 close',
	'20 MB into a 413: the status arrives');
is(refused('/upload/gate/x', from => '127.0.0.7'), '401 close', 'a 401');
is(refused('/upload/dock2/x', from => '127.0.0.5'), '403 close', 'a 403');
is(refused('/upload/d/x', head => "Content-Range: bytes 0-1/2\r\n"),
	'400 close', 'a 400');
{
	my $r;
	$r = $box->put("/upload/fill/$_", 'f' x (8 << 20)) for 1 .. 8;
	is($r->{status}, 507, 'a full spool: 507');
	is($r->{headers}{'retry-after'}, 60, 'with Retry-After');
	is(refused('/upload/d/x'), '507 close', '20 MB into it: it arrives');
	is($box->get('/-/health')->{status}, 503, 'health tells it');
}

# ---- when it is full: the oldest go -----------------------------------------
{
	my $old = $box->ledger;
	reconfigure(spool => { when_full => 'drop-oldest' });
	is(put('/upload/fill/new', 'n' x (8 << 20)), 201,
		'drop-oldest: taken all the same');
	ok(wait_for(sub { $box->ledger->{evicted} > $old->{evicted} }),
		'others were evicted');
	is($box->unbalanced, '', 'the ledger balances');
	like($box->proxy->new_log, qr/evicted/, 'and the log says so');
	reconfigure(spool => { when_full => 'refuse' });
}
ok($box->proxy->stop, 'the proxy stops cleanly');

# ---- TLS ----------------------------------------------------------------------
sub certificate {
	my ($cn) = @_;
	my ($rc, undef, $err) = Edgehaul->run('openssl', 'req', '-x509',
		'-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
		'-nodes', '-days', 2, '-subj', "/CN=$cn", '-addext',
		'subjectAltName=IP:127.0.0.1', '-keyout', "$dir/new.key",
		'-out', "$dir/new.pem");
	die $err if $rc != 0;
	rename "$dir/new.$_", "$dir/tls.$_" for qw(key pem);
}
# Octets through a TLS client, in pieces; what came back.
sub through_tls {
	my ($address, $bytes, $step) = @_;
	my $pid = open2(my $out, my $in, "exec openssl s_client -quiet -connect "
		. "$address -CAfile $dir/tls.pem -verify_return_error "
		. '2>/dev/null');
	binmode $_ for $in, $out;
	$in->autoflush(1);
	for (my $off = 0; $off < length $bytes; $off += $step) {
		print $in substr $bytes, $off, $step;
		Time::HiRes::sleep(0.0005);
	}
	local $/;
	my $got = <$out>;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return $got // '';
}
SKIP: {
	need(12, 'openssl', 'curl');
	certificate('first.lan');
	my $tls = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't', conf => { listen => { tls_address => '127.0.0.1:0',
			cert_file => "$dir/tls.pem", key_file => "$dir/tls.key" } });
	$tls->proxy->start;
	my $at = $tls->proxy->address('lan-tls');
	my @curl = ('curl', '-sv', '--cacert', "$dir/tls.pem", '-T',
		"$dir/body");
	spit("$dir/body", $jpeg);
	my ($rc, $out, $err) = Edgehaul->run(@curl,
		"https://$at/upload/tls/a.jpg");
	like($out, qr/"sha256":"${\ sha256_hex($jpeg)}"/, 'TLS: an upload');
	like($err, qr/CN=first\.lan/, 'by the certificate given');
	for my $step (1000, 1 + int rand 9000) {
		my ($what, $body, $type, @files) = @{ $forms[8] };
		my $got = through_tls($at, form_request('tls', $body, $type),
			$step);
		my ($json) = $got =~ /\r\n\r\n(\{.*)/s;
		is(judge({ status => ($got =~ m{^HTTP/1\.1 (\d+)})[0],
			body => $got, json => $json && Edgehaul::json_decode($json) },
			@files), '', "TLS: a form cut each $step octets");
	}
	my $big = 'PUT /upload/tls/plain HTTP/1.1\r\nHost: x\r\nContent-Length: '
	    . "3000000\r\n\r\n" . 'x' x 3_000_000;
	my $r = Edgehaul::request_bytes($at, $big, quiet => 0.3, timeout => 10);
	is($r->{answers}[0]{status}, 400, 'plain HTTP on the TLS port: 400');
	like($r->{answers}[0]{json}{error}, qr{use https://}, 'what to do');
	ok($r->{closed}, 'and the connection ends');
	Edgehaul->run('openssl', 's_client', '-tls1_1', '-cipher',
		'ALL:@SECLEVEL=0', '-connect', $at);
	like($tls->proxy->log, qr/status=0: no TLS handshake: \w/,
		'a handshake that fails is told, with why');
	my $held = through_tls_open($at);
	certificate('second.lan');
	$tls->proxy->reload;
	($rc, $out, $err) = Edgehaul->run(@curl, "https://$at/upload/tls/b.jpg");
	like($err, qr/CN=second\.lan/, 'SIGHUP: the new certificate');
	like($held->(), qr/^HTTP.1\.1 201/, 'what was open is finished');
	spit("$dir/tls.key", "broken\n");
	$tls->proxy->hup;
	ok(wait_for(sub { $tls->proxy->new_log =~ /error .*key_file/ }),
		'a broken key is told');
	($rc, $out, $err) = Edgehaul->run(@curl, "https://$at/upload/tls/c.jpg");
	like($out, qr/"id"/, 'and the old pair serves on');
	ok($tls->proxy->stop, 'stops cleanly');
}
# Half a request through TLS; a function that sends the rest and tells the
# answer.
sub through_tls_open {
	my ($address) = @_;
	my $pid = open2(my $out, my $in, "exec openssl s_client -quiet -connect "
		. "$address 2>/dev/null");
	$in->autoflush(1);
	print $in "PUT /upload/tls/held HTTP/1.1\r\nHost: x\r\n"
	    . "Content-Length: 4\r\nConnection: close\r\n\r\nab";
	Time::HiRes::sleep(0.5);
	return sub {
		print $in 'cd';
		local $/;
		my $got = <$out>;
		kill 'TERM', $pid;
		waitpid $pid, 0;
		return $got;
	};
}

# ---- too old ------------------------------------------------------------------
ok(wait_for(sub { $aged->ledger->{expired} == 1 }, 40),
	'max_age: what waited for too long is given up');
is($aged->unbalanced, '', 'the ledger balances');
like($aged->proxy->new_log, qr/expired/, 'and the log says so');
ok($aged->proxy->stop, 'stops cleanly');
finish;
