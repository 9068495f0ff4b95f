#!/usr/bin/perl
# Images get smaller on the way, and stock tools give back what was sent
#
# FILE storage and a store that fails as it is told; t/71 has the real ones.
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $top = Edgehaul::top_srcdir();
my $build = Edgehaul::top_builddir();
my $features = slurp("$build/config.h");
my $has_jpeg = $features =~ /^#define HAVE_JPEG 1/m;
my $has_jxl = $features =~ /^#define HAVE_JXL 1/m;
my $images = "$top/t/data/images";
my $jpeg = jpeg();
my $csv = join '', map { "2026-01-02T03:04:05Z;$_;" . 3 * $_ . ".5\n" }
    1 .. 5000;
my $noise = pack 'L*', map { int rand 2**32 } 1 .. 20000;

# What a program makes of octets: its standard output.
sub pipe_through {
	my ($octets, @cmd) = @_;
	my $dir = Edgehaul->dir('pipe');
	my ($in, $out) = ("$dir/in", "$dir/out");
	spit($in, $octets);
	unlink $out;
	my ($rc, undef, $err) = Edgehaul->run(
		map { s/^IN$/$in/r =~ s/^OUT(\.\w+)?$/$out . ($1 \/\/ '')/er } @cmd);
	diag("@cmd: exit $rc $err") if $rc != 0;
	my ($made) = grep { -f } $out, map { "$out.$_" } qw(jpg ppm pgm);
	my $s = defined $made ? slurp($made) : undef;
	unlink $made if defined $made;
	return $s;
}
sub pixels { pipe_through($_[0], qw(djpeg -outfile OUT IN)) }

my $site = Edgehaul->site(conf => {
	images => { mode => 'lossless' },
	'camera cam-off' => { images => 'off' },
	'camera cam-lossy' => { images => 'lossy', quality => 40,
		max_dimension => 320 },
});
my $sent = 0;

sub send_one {
	my ($path, $body, $type) = @_;
	my $r = $site->put("/upload/$path", $body, type => $type);
	is($r->{status}, 201, "$path: 201");
	$sent++;
	return { id => $r->{json}{id}, size => length $body,
		sha256 => sha256_hex($body) };
}

# One that shall get smaller: alone, so that the uplink does not wait for it.
sub send_alone {
	my $u = send_one(@_);
	$site->drained(30, $sent) or diag("$_[0] is not delivered");
	return $u;
}

# The object as a reader gets it: {body, type, encoding, meta}.
sub object {
	my ($u) = @_;
	my $files = $site->files;
	my ($name) = grep { /$u->{id}/ } keys %$files or return {};
	my ($key) = $name =~ m{^[^/]+/[^/]+/[^/]+/(.*)};
	my $r = Edgehaul::http('POST', $site->signer->url('') . '/v1/sign',
		token => slurp($site->{token_file}) =~ s/\s+$//r,
		json => { uploads => [{ id => 'x', key => $key,
			method => 'HEAD', device => 'x' }] });
	my $recipe = $r->{json}{results}[0]{recipe};
	my $h = Edgehaul::http('HEAD', $recipe->{uri});
	my %o = (body => slurp($files->{$name}), status => $h->{status},
		type => $h->{headers}{'content-type'},
		encoding => $h->{headers}{'content-encoding'} // '');
	/^x-edge-meta-(.*)/ and $o{meta}{$1} = $h->{headers}{$_}
	    for keys %{ $h->{headers} };
	return \%o;
}

sub is_original {
	my ($u, $what) = @_;
	my $o = object($u);
	is(sha256_hex($o->{body} // ''), $u->{sha256}, "$what: as it was");
	is($o->{encoding}, '', "$what: no encoding");
	return $o;
}

sub tells_original {
	my ($u, $o, $type, $steps) = @_;
	is_deeply($o->{meta}, { 'original-sha256' => $u->{sha256},
		'original-size' => $u->{size}, 'original-type' => $type,
		steps => $steps }, "$steps: the original in the metadata");
	cmp_ok(length $o->{body}, '<', $u->{size}, "$steps: smaller");
}

# What a page with both pictures finds out about their pixels.
sub in_browser {
	my ($browser, @jpegs) = @_;
	require MIME::Base64;
	my $dir = Edgehaul->dir('browser');
	my @src = map { 'data:image/jpeg;base64,'
		. MIME::Base64::encode_base64($_, '') } @jpegs;
	spit("$dir/page.html", <<"END");
<img id=a src="$src[0]"><img id=b src="$src[1]"><p id=p>?</p><script>
onload = () => {
	const of = (id) => {
		const i = document.getElementById(id);
		const c = document.createElement('canvas');
		c.width = i.naturalWidth;
		c.height = i.naturalHeight;
		const x = c.getContext('2d');
		x.drawImage(i, 0, 0);
		return x.getImageData(0, 0, c.width, c.height);
	};
	const a = of('a'), b = of('b');
	const same = a.data.length == b.data.length
	    && a.data.every((v, i) => v == b.data[i]);
	document.getElementById('p').textContent =
	    (same ? 'same ' : 'different ') + a.width + 'x' + a.height;
};
</script>
END
	my ($rc, $out) = Edgehaul->run($browser, '--headless', '--no-sandbox',
		'--disable-gpu', '--virtual-time-budget=20000',
		"--user-data-dir=$dir/profile", '--dump-dom',
		"file://$dir/page.html");
	return ($out =~ m{<p id="p">(.*?)</p>})[0] // "exit $rc";
}

sub restart_with {
	my (%conf) = @_;
	$site->configure(images => \%conf);
	$site->agent->stop;
	$site->agent->start;
}

# How long a PUT takes, median.
sub latency {
	my ($name) = @_;
	my @took;
	for (1 .. 21) {
		my $t = Time::HiRes::time();
		send_one("cam-1/$name-$_.jpg", $jpeg, 'image/jpeg');
		push @took, Time::HiRes::time() - $t;
	}
	return (sort { $a <=> $b } @took)[10];
}

sub images_status {
	my ($rc, $out) = $site->ctl('status', '--json');
	my $s = json_decode($out);
	return $s->{agent}{images} // {};
}

# What the agent has told of a camera.
sub camera_images {
	my ($name) = @_;
	my ($rc, $out) = $site->ctl('status', '--json');
	my ($c) = grep { $_->{name} eq $name } @{ json_decode($out)->{cameras} };
	return $c->{images};
}

# ---- lossless ----------------------------------------------------------------
my %up;
$up{jpg} = send_alone('cam-1/a.jpg', $jpeg, 'image/jpeg');
$up{meta} = send_alone('cam-1/meta.jpg', slurp("$images/metadata.jpg"),
	'image/jpeg');
$up{csv} = send_alone('cam-1/log.csv', $csv, 'text/csv');
$up{bmp} = send_alone('cam-1/a.bmp', slurp("$images/odd.bmp"), 'image/bmp');
$up{noise} = send_alone('cam-1/n.bin', $noise, 'application/octet-stream');
$up{png} = send_alone('cam-1/a.png', "\x89PNG\r\n\x1a\n" . 'a' x 5000,
	'image/png');
$up{liar} = send_alone('cam-1/liar.jpg', $csv, 'image/jpeg');
$up{tiny} = send_alone('cam-1/tiny.txt', 'x', 'text/plain');
$up{cut} = send_alone('cam-2/cut.jpg', substr($jpeg, 0, 30000), 'image/jpeg');
my $hole = $jpeg;
substr($hole, 20000, 4096) = "\0" x 4096;
$up{hole} = send_alone('cam-2/hole.jpg', $hole, 'image/jpeg');
$up{off} = send_alone('cam-off/a.jpg', $jpeg, 'image/jpeg');
$up{lossy} = send_alone('cam-lossy/a.jpg', $jpeg, 'image/jpeg');
ok($site->drained(30, $sent), 'all are delivered');

SKIP: {
	need(6, 'djpeg');
	skip('built without libjpeg', 6) if !$has_jpeg;
	my $o = object($up{jpg});
	is($o->{type}, 'image/jpeg', 'a JPEG stays a JPEG');
	tells_original($up{jpg}, $o, 'image/jpeg', 'jpeg-progressive');
	is(sha256_hex(pixels($o->{body})), sha256_hex(pixels($jpeg)),
		'djpeg: the same pixels');
	$o = object($up{meta});
	ok(index($o->{body}, 'cam-7 2026-01-02') > 0
		&& index($o->{body}, 'Exif') > 0
		&& $o->{body} =~ /vendor data after the end\z/,
		'its metadata is all there');
	$o = object($up{lossy});
	is($o->{meta}{steps}, 'jpeg-lossy quality=40 max-dimension=320',
		'lossy by permission tells what was done');
}
# A browser is large, so quickstart does not install it: a SKIP is no failure.
SKIP: {
	my ($browser) = grep { defined } map { Edgehaul::have($_) && $_ }
	    qw(chromium-headless-shell chromium);
	skip('no browser (Debian: chromium-headless-shell)', 2) if !$browser;
	skip('built without libjpeg', 2) if !$has_jpeg;
	my $o = object($up{jpg});
	is(in_browser($browser, $jpeg, $o->{body}), 'same 640x480',
		'Chromium: the same pixels');
	$o = object($up{lossy});
	is(in_browser($browser, $jpeg, $o->{body}), 'different 640x480',
		'Chromium: others where detail is lost');
}
SKIP: {
	need(5, 'zstd');
	my $o = object($up{csv});
	is($o->{encoding}, 'zstd', 'CSV: Content-Encoding zstd');
	is($o->{type}, 'text/csv', 'CSV: its own type');
	tells_original($up{csv}, $o, 'text/csv', 'zstd');
	is(sha256_hex(pipe_through($o->{body}, qw(zstd -q -d -o OUT IN)) // ''),
		$up{csv}{sha256}, 'zstd -d: byte for byte');
	$o = object($up{bmp});
	is(sha256_hex(pipe_through($o->{body}, qw(zstd -q -d -o OUT IN)) // ''),
		$up{bmp}{sha256}, 'BMP by zstd: byte for byte');
	$o = object($up{liar});
	is($o->{encoding}, 'zstd', 'octets count, not the claimed type');
}
is(is_original($up{$_}, $_)->{meta}, undef, "$_: nothing to tell")
    for qw(noise png tiny off);
is_deeply(is_original($up{cut}, 'truncated')->{meta}, { damaged => 'yes' },
	'a truncated JPEG is marked');
SKIP: {
	skip('built without libjpeg', 1) if !$has_jpeg;
	is_deeply(is_original($up{hole}, 'hole')->{meta}, { damaged => 'yes' },
		'a JPEG with a hole is marked');
}

# ---- what was saved --------------------------------------------------------
my ($rc, $out) = $site->ctl('status', '--json');
my $st;
ok(wait_for(sub {
	$st = images_status();
	($st->{outcomes}{incompressible} // 0) >= 2;
}), 'status counts') or diag(json_encode($st));
cmp_ok($st->{bytes_out}, '<', $st->{bytes_in}, 'bytes are saved');
cmp_ok($st->{outcomes}{smaller}, '>=', 3, 'so many got smaller');
is($st->{outcomes}{damaged}, $has_jpeg ? 2 : 1, 'damaged ones are counted');
is($st->{outcomes}{$_} // 0, 0, "none $_")
    for qw(died timeout differs failed no_worker);
# what is saved per camera comes page by page
my $saved = sub { (camera_images('cam-2') // {})->{damaged} // 0 };
ok(wait_for(sub { $saved->() >= ($has_jpeg ? 2 : 1) }), 'per camera')
    or diag($saved->());
ok(!defined camera_images('cam-off'), 'what is off is not looked at');
($rc, $out) = $site->ctl('status');
like($out, qr/^images .* saved/m, 'status tells it in words');
like($out, qr/^ +cam-2: 2 files, .* damaged/m, 'and per camera');

# ---- nothing gets smaller: not each is tried ---------------------------------
send_one("cam-noise/$_.bin", "$_$noise", 'application/octet-stream') for 1 .. 40;
ok($site->drained(30, $sent), 'noise is delivered');
ok(wait_for(sub {
	my $c = camera_images('cam-noise') // {};
	my $o = images_status()->{outcomes};
	($c->{files} // 0) == 40
	    && ($o->{unlikely} // 0) + ($o->{passed} // 0) >= 20;
}), 'most of it without a try') or diag(json_encode(images_status()));

# JPEGs that gain nothing are still looked at: a missing end is seen
my $progressive = slurp("$images/progressive.jpg");
send_alone("cam-prog/$_.jpg", "$progressive$_", 'image/jpeg') for 1 .. 8;
ok(wait_for(sub { ((camera_images('cam-prog') // {})->{files} // 0) >= 8 }),
	'they count');
is_deeply(is_original(send_alone('cam-prog/cut.jpg',
	substr($progressive, 0, -99), 'image/jpeg'), 'not tried')->{meta},
	{ damaged => 'yes' }, 'a truncated one is marked');

# ---- bombs -----------------------------------------------------------------
my $without = latency('before');
my $bomb = $jpeg;
my $sof = index($bomb, "\xff\xc0");
substr($bomb, $sof + 5, 4) = pack 'nn', 60000, 60000;
my $bmp_bomb = pack('a2Vv2V', 'BM', 2**31, 0, 0, 54)
    . pack('V3v2V6', 40, 2**31 - 1, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    . "\0" x 2000;
# a PNG of 60000 x 60000, and a JPEG whose last scan comes again and again
my $png_bomb = "\x89PNG\r\n\x1a\n" . pack('NA4N2C5N', 13, 'IHDR', 60000,
	60000, 8, 2, 0, 0, 0, 0) . pack('NA4', 0, 'IEND') . "\0" x 600;
my $scans = slurp("$images/progressive.jpg");
my $last = substr $scans, rindex($scans, "\xff\xda"), -2;
substr($scans, -2) = $last x 20000 . "\xff\xd9";
my @bombs = ((map { send_one("bad-1/$_.jpg", $bomb, 'image/jpeg') } 1 .. 10),
	send_one('bad-2/a.png', $png_bomb, 'image/png'),
	send_one('bad-3/scans.jpg', $scans, 'image/jpeg'),
	send_one('bad-1/a.bmp', $bmp_bomb, 'image/bmp'));
my $with = latency('beside');
ok($site->drained(30, $sent), 'bombs and others are delivered');
is_original($_, 'bomb') for @bombs[0 .. 11];
cmp_ok(images_status()->{cpu_ms}, '<', 5000 * Edgehaul::slowness(),
	'they took little time');
cmp_ok($with, '<', 3 * $without + 0.05 * Edgehaul::slowness(),
	'other cameras are not held up') or diag("$with s, $without s before");
ok(wait_for(sub {
	my $o = images_status()->{outcomes};
	($o->{too_large} // 0) + ($o->{passed} // 0) + ($o->{unlikely} // 0)
	    >= ($has_jpeg ? 10 : 0);
}), 'they are left alone') or diag(json_encode(images_status()));

# ---- JPEG XL ---------------------------------------------------------------
SKIP: {
	skip('built without JPEG XL', 8) if !$has_jxl;
	need(8, 'djxl');
	restart_with(mode => 'lossless', jpeg => 'jxl');
	$up{jxl} = send_alone('cam-1/x.jpg', $jpeg, 'image/jpeg');
	$up{raw} = send_alone('cam-1/x.ppm', slurp("$images/odd.ppm"),
		'image/x-portable-pixmap');
	ok($site->drained(30, $sent), 'delivered as JPEG XL');
	my $o = object($up{jxl});
	is($o->{type}, 'image/jxl', 'image/jxl');
	tells_original($up{jxl}, $o, 'image/jpeg', 'jpeg-to-jxl');
	is(sha256_hex(pipe_through($o->{body}, qw(djxl IN OUT.jpg)) // ''),
		$up{jxl}{sha256}, 'djxl: the identical file');
	$o = object($up{raw});
	is($o->{type}, 'image/jxl', 'a raw frame too');
	is(sha256_hex(pipe_through($o->{body}, qw(djxl IN OUT.ppm)) // ''),
		$up{raw}{sha256}, 'djxl: the identical frame');
}

# ---- pressure --------------------------------------------------------------
restart_with(mode => 'lossless', jpeg => 'progressive', when => 'pressure');
my $fresh = send_one('cam-1/fresh.csv', $csv, 'text/csv');
ok($site->drained(30, $sent), 'delivered');
is_original($fresh, 'without pressure');

# ---- workers that die ------------------------------------------------------
restart_with(mode => 'lossless', when => 'always');
my $first = send_one('cam-1/0.csv', $csv, 'text/csv');
ok($site->drained(30, $sent), 'a worker is there');
my $kill = sub {
	my $agent = $site->agent->pid;
	for my $dir (glob '/proc/[0-9]*') {
		my ($pid) = $dir =~ /(\d+)/;
		my $stat = eval { slurp("$dir/stat") } or next;
		my ($name, $parent) = $stat =~ /\((.*)\) \S (\d+)/ or next;
		kill 'KILL', $pid if $name eq 'edgehaul-image'
		    && $parent == $agent;
	}
};
for my $n (1 .. 30) {
	send_one("cam-1/$n.csv", $csv, 'text/csv');
	$kill->() if $n % 3 == 0;
}
ok($site->drained(60, $sent), 'workers are killed, nothing is lost');
is($site->unbalanced, '', 'the ledger balances');
is(scalar(grep { $_->{state} ne 'waiting' } $site->queue_ls), 0,
	'nothing is quarantined');
finish;
