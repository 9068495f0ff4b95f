#!/usr/bin/perl
# Nobody takes more than a share: bytes, files and uploads a minute, of all
# devices, of one camera, of one address; each refusal a 429 that arrives
use strict;
use warnings;
use Edgehaul;
use Test::More;

require Edgehaul::Raw;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { spool => { max_size => '64 MB', repeat_window => '0 s' },
		limits => { share => '4 MB' },
		'camera big' => { address => '127.0.0.5', share => '8 MB',
			uploads_per_minute => 9 },
		'camera small' => { address => '127.0.0.6',
			share => '100 KB', waiting_per_device => 4,
			on_same_name => 'reject' },
		'camera badge' => { user => 'badge',
			password_file => Edgehaul->dir('secret') . '/pw',
			max_upload => '10 KB' } });
spit($box->{conf}{'camera badge'}{password_file}, "pass\n");
$box->configure;
$box->proxy->start;
my $n = 0;

sub reconfigure {
	$box->configure(@_);
	ok($box->proxy->reload, 'reloaded');
}
sub put {
	my ($path, $body, %o) = @_;
	return $box->put($path, $body, %o);
}
# Put until it is refused; how many were taken, and the last answer.
sub fill {
	my ($device, $size, %o) = @_;
	my ($taken, $r) = (0);
	wait_for(sub {
		$r = put("/upload/$device/" . ++$n, 'x' x $size, %o) or return 0;
		$taken++ if $r->{status} == 201;
		return $r->{status} != 201;
	});
	return ($taken, $r);
}

# ---- of all devices -----------------------------------------------------------
{
	my ($taken, $r) = fill('wild', 900_000);
	is($r->{status}, 429, 'one that sends too much: its share is full, 429');
	cmp_ok($taken, '>=', 4, 'not before that');
	is($r->{headers}{'retry-after'}, 60, 'with Retry-After');
	is(put('/upload/calm/x', 'x' x 900_000)->{status}, 201,
		'the others go on');
	my $c = Edgehaul::Raw->new($box->lan);
	$c->send("PUT /upload/wild/y HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: 3145728\r\n\r\n" . 'x' x 3145728);
	$r = $c->response // {};
	is("$r->{status} $r->{headers}{connection}", '429 close',
		'3 MB into a 429: it arrives');
}

# ---- of one camera ------------------------------------------------------------
{
	# the share is as of the last second, so that some more may slip in
	my ($taken, $r) = fill('big', 800_000, from => '127.0.0.5');
	is($r->{status}, 429, 'a camera with a share of its own');
	cmp_ok($taken, '>', 5, 'which is larger than that of others');
	like($r->{json}{error}, qr/too often/,
		'but this one sent too often for its own rate');
	like($r->{headers}{'retry-after'}, qr/^[1-7]$/, 'and is told when');
	is($taken, 9, 'after its minute of uploads');
	is(put('/upload/small/x', 'x' x 110_000, from => '127.0.0.6')->{status},
		429, 'one upload larger than the share of a camera');
	($taken, $r) = fill('small', 10, from => '127.0.0.6');
	is($r->{status}, 429, 'a camera with a number of files of its own');
	like($r->{json}{error}, qr/share/, 'which is what was full');
	cmp_ok($taken, '>=', 4, 'not before that');
	is(put('/upload/calm/y', 'x')->{status}, 201, 'others go on');
}

# ---- a name that a password proves --------------------------------------------
{
	my @auth = (headers => ['Authorization: Basic YmFkZ2U6cGFzcw==']);
	is(put('/upload/badge/a', 'x')->{status}, 401,
		'a camera without an address: its password is asked for');
	is(put('/upload/badge/a', 'x', @auth)->{status}, 201, 'and taken');
	is(put('/upload/badge/b', 'x' x 20_000, @auth)->{status}, 413,
		'and its limits are its own');
}

# ---- rules of one camera, and reload -------------------------------------------
reconfigure(limits => { share => '100 %', waiting_per_device => 20 },
	'camera small' => { share => '50 %', waiting_per_device => 2000 });
ok(wait_for(sub { put('/upload/wild/z', 'z')->{status} == 201 }),
	'a larger share counts after SIGHUP');
is(put('/upload/small/same', 'v1', from => '127.0.0.6')->{status}, 201,
	'reject, of one camera: the first is taken');
is(put('/upload/small/same', 'v2', from => '127.0.0.6')->{status}, 409,
	'the second is 409');
is(put('/upload/calm/same', $_)->{status}, 201, "others may: $_")
    for qw(v1 v2);
{
	my ($taken, $r) = fill('many', 1);
	is($r->{status}, 429, 'one that keeps too many files here: 429');
	cmp_ok($taken, '>=', 20, 'not before that');
	is(put('/upload/calm/y2', 'x')->{status}, 201, 'others go on');
}

# ---- often, and of one address ---------------------------------------------------
reconfigure(limits => { waiting_per_device => 'none',
	uploads_per_minute => 5 });
is(join(' ', map { put("/upload/often/$_", 'x')->{status} } 1 .. 6),
	'201 201 201 201 201 429', 'one that sends too often');
like(put('/upload/often/x', 'x')->{headers}{'retry-after'}, qr/^1[0-3]$/,
	'is told when to come again');
is(put('/upload/calm/z', 'x')->{status}, 201, 'others go on');
reconfigure(limits => { count_addresses => 'yes' });
is(join(' ', map { put("/upload/name$_/x", 'x', from => '127.0.0.8')->{status} }
	1 .. 6), '201 201 201 201 201 429',
	'count_addresses: with ever new names as well');
is(put('/upload/name7/x', 'x', from => '127.0.0.9')->{status}, 201,
	'another address goes on');
reconfigure(limits => { uploads_per_minute => 'none',
	waiting_per_device => 12 });
{
	my ($taken, $r) = (0);
	wait_for(sub {
		$r = put('/upload/n' . ++$n . '/x', 'x', from => '127.0.0.10');
		$taken++ if $r->{status} == 201;
		return $r->{status} != 201;
	});
	is($r->{status}, 429, 'its waiting files are counted together');
	cmp_ok($taken, '>=', 12, 'not before that');
	is(put('/upload/n/x', 'x', from => '127.0.0.11')->{status}, 201,
		'another address goes on');
	is(put('/upload/small/more', 'x', from => '127.0.0.6')->{status}, 201,
		'and so does a camera with its own share');
}
unlike($box->get('/-/status.json')->{body}, qr/\\u0001/,
	'no address stands among the cameras');
is($box->unbalanced, '', 'the ledger balances');
ok($box->proxy->stop, 'the proxy stops cleanly');
finish;
