#!/usr/bin/perl
# A gateway held to 64 MB, its image workers included
#
# Proxy, agent and all their children are in one control group, so what the
# kernel counts is all of it; a process that it has to kill fails the test.
use strict;
use warnings;
use Edgehaul;
use Test::More;

plan(skip_all => 'sanitizers: memory is theirs') if Edgehaul::sanitized();
Edgehaul->need_all('cjpeg');
my $site = eval { Edgehaul->site(memory => 64 << 20,
	dir => Edgehaul->dir('gateway', disk => 1),
	conf => { images => { mode => 'lossless' },
		spool => { max_size => '2 GB' } }) };
if (!$site) {
	plan(skip_all => $Edgehaul::Memory::why) if $Edgehaul::Memory::why;
	die $@;
}
my $group = $site->{memory};
my $features = slurp(Edgehaul::top_builddir() . '/config.h');
my ($has_jpeg, $has_jxl) = map { $features =~ /^#define HAVE_$_ 1/m ? 1 : 0 }
    qw(JPEG JXL);

# A photograph of its size as far as codecs are concerned: edges and noise.
sub picture {
	my ($w, $h) = @_;
	my $dir = Edgehaul->dir('picture');
	srand 7;
	my @rows = map {
		my $k = $_;
		join '', map { my $v = 90 + 60 * sin($_ / (20 + $k)) + rand 12;
			pack 'C3', $v, $v + $k, $v - $k } 1 .. $w;
	} 1 .. 16;
	my $ppm = "P6\n$w $h\n255\n" . join '', map { $rows[rand 16] } 1 .. $h;
	spit("$dir/a.ppm", $ppm);
	my ($rc, $jpeg, $err) = Edgehaul->run('cjpeg', '-baseline', '-sample',
		'2x2', '-quality', 85, "$dir/a.ppm");
	die "cjpeg: $err\n" if $rc != 0;
	return ($jpeg, $ppm);
}

my ($hd, $hd_raw) = picture(1920, 1080);
my ($huge) = picture(4000, 3000);
my $csv = join '', map { sprintf "2026-01-02T03:04:05Z;%d;%d\n", $_, 7 * $_ }
    1 .. 500_000;
my $sent = 0;
my $most = 0;

# What is only ours, of all processes of the group.
sub look {
	my $sum = 0;
	for my $pid (split ' ', slurp("$group->{dir}/cgroup.procs")) {
		my $s = eval { slurp("/proc/$pid/status") } // '';
		$sum += $1 if $s =~ /^RssAnon:\s+(\d+)/m;
	}
	$most = $sum if $sum > $most;
}

sub send_one {
	my ($path, $body, $type) = @_;
	my $r = $site->put("/upload/$path", $body, type => $type);
	die "PUT $path: $r->{status}\n" if $r->{status} != 201;
	$sent++;
	look();
}

sub outcomes { $site->status->{agent}{images}{outcomes} // {} }
sub settled {
	my ($what) = @_;
	ok(wait_for(sub { look(); $site->ledger->{delivered} >= $sent }, 60),
		"$what is delivered") or diag(json_encode($site->ledger));
}

for my $n (1 .. 5) {
	send_one("cam-$_/$n.jpg", $hd, 'image/jpeg') for 1 .. 4;
	send_one("big/$n.jpg", $huge, 'image/jpeg') if $n < 4;
}
settled('a burst of pictures');
send_one("cam-1/alone-$_.jpg", $hd, 'image/jpeg'), settled("picture $_")
    for 1 .. 3;
send_one('log/a.csv', $csv, 'text/csv');
settled('a large text');
send_one('raw/a.ppm', $hd_raw, 'image/x-portable-pixmap');
settled('a raw frame');
ok(wait_for(sub { (outcomes()->{smaller} // 0) >= ($has_jpeg ? 4 : 1) }),
	'pictures of 1080p get smaller') or diag(json_encode(outcomes()));
SKIP: {
	skip('built without libjpeg', 1) if !$has_jpeg;
	my $o = outcomes();
	cmp_ok(($o->{too_large} // 0) + ($o->{passed} // 0)
		+ ($o->{unlikely} // 0), '>=', 3,
		'what does not fit goes as it is') or diag(json_encode($o));
}
SKIP: {
	skip('built without JPEG XL', 5) if !$has_jxl;
	$site->configure(images => { jpeg => 'jxl' });
	$site->agent->stop;
	$site->agent->start;
	send_one("cam-$_/jxl.jpg", "$hd\0", "image/jpeg") for 1 .. 4;
	send_one('raw/b.ppm', $hd_raw, 'image/x-portable-pixmap');
	send_one("big/jxl-$_.jpg", $huge, 'image/jpeg') for 1 .. 2;
	settled('as JPEG XL where that fits, it');
	send_one('small/a.jpg', jpeg(), 'image/jpeg');
	settled('a small one');
	ok(wait_for(sub { (outcomes()->{smaller} // 0) >= 1 }),
		'a small one gets smaller') or diag(json_encode(outcomes()));
}
my $o = outcomes();
is($o->{$_} // 0, 0, "none $_") for qw(died timeout failed no_worker differs);
is($site->unbalanced, '', 'the ledger balances');
diag(sprintf 'memory of our own at most %d kB, with the page cache %d kB',
	$most, $group->peak / 1024);
cmp_ok($most, '<', 64 << 10, 'and all of it stayed below 64 MB');
finish;
