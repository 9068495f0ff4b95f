#!/usr/bin/perl
# edgehaul firmware drop: a folder as a way in, also one that s3fs mounts; and
# the bucket mounted by s3fs shows the releases by name.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;

Edgehaul->need_all('minisign');
my $s = Edgehaul->signer;
my $token = $s->token('publisher');
$s->start;
$s->storage('default', type => 'FILE');
my $fw = Edgehaul::Publisher->new($s, token => $token);
my $p = Edgehaul::Workstation->new(url => $s->url, token => $token, key => $fw->key,
    conf => ['drop_interval = 150 ms']);
is(($p->run('product', '--product', 'cam-x', '--hw', '1.0'))[0], 0, 'a product');
my $drop = Edgehaul->dir('drop');

# Put a file there with a signature over it, or over other bytes.
sub put {
	my ($name, $bytes, $comment, %o) = @_;
	my $dir = $o{dir} // $drop;
	my $by = $o{by} // $fw;
	spit("$dir/$name", $bytes);
	spit("$dir/$name.minisig", $by->sign($o{signed} // $bytes, $comment))
	    if !$o{unsigned};
}

sub look { my ($dir) = @_; return $p->run('drop', '--once', '--watch', $dir // $drop) }
sub word { my ($name, $what) = @_; my $f = "$drop/$name.$what"; return -e $f ? slurp($f) : '' }
sub has { my ($path) = @_; return -e "$s->{objects}/acme/default/firmware/$path" }

# ---- taken ----------------------------------------------------------------

put('fw-1.bin', 'one' x 100_000, 'product:cam-x version:1.0.0 hw:1.0');
put('notes.txt', 'no signature beside it', '', unsigned => 1);
my ($rc, $out, $err) = look();
is($rc, 0, 'a look') or diag($err);
like(word('fw-1.bin', 'taken'), qr/cam-x 1\.0\.0 is published in stable/, 'taken, and told');
ok(has('cam-x/stable/1.0.0/fw-1.bin'), 'it is in the bucket');
is(word('notes.txt', $_), '', "a file without a signature is not looked at: no .$_")
    for 'taken', 'refused';
my $taken = (stat "$drop/fw-1.bin.taken")[9];
is((look())[0], 0, 'again');
is((stat "$drop/fw-1.bin.taken")[9], $taken, 'what was taken stays so');
mkdir "$drop/$_" for 'cam-x', 'cam-x/beta', 'cam-x/beta/2.0.0';
put('cam-x/beta/2.0.0/fw-2.bin', 'two' x 1000, 'by path');
is((look())[0], 0, 'a path that tells what it is');
ok(has('cam-x/beta/2.0.0/fw-2.bin'), 'published by it');

# ---- what is no file ------------------------------------------------------

# Others put things there: none of them is waited for.
{
	require POSIX;
	my $odd = Edgehaul->dir('odd');
	my @look = ('timeout', '20', $p->{program}, '--config', $p->conf, 'firmware', 'drop', '--once',
	    '--watch', $odd);
	put('fifo.bin', 'bytes', 'product:cam-x version:1.0.1', dir => $odd);
	unlink "$odd/fifo.bin";
	POSIX::mkfifo("$odd/fifo.bin", 0600);
	spit("$odd/signed.bin", 'bytes');
	POSIX::mkfifo("$odd/signed.bin.minisig", 0600);
	put('good.bin', 'good', 'product:cam-x version:1.0.2', dir => $odd);
	my ($rc, $out, $err) = Edgehaul->run(@look);
	isnt($rc, 124, 'neither a FIFO nor a signature that is one holds it up') or diag($err);
	like(slurp("$odd/signed.bin.refused"), qr/tells what it is|no signature/, 'it is refused');
	ok(-e "$odd/good.bin.taken", 'and the others are taken');
	# A file that becomes a FIFO between two looks, and on the way to its copy.
	put('late.bin', 'late' x 1000, 'product:cam-x version:1.0.3', dir => $odd);
	my $stop = Time::HiRes::time() + 2;
	my $pid = fork // die;
	if ($pid == 0) {
		while (Time::HiRes::time() < $stop) {
			POSIX::mkfifo("$odd/late.tmp", 0600);
			rename "$odd/late.tmp", "$odd/late.bin";
			spit("$odd/late.tmp", 'late' x 1000);
			utime 1e9, 1e9, "$odd/late.tmp";
			rename "$odd/late.tmp", "$odd/late.bin";
		}
		POSIX::_exit(0);
	}
	($rc) = Edgehaul->run(@look) while Time::HiRes::time() < $stop;
	waitpid $pid, 0;
	isnt($rc, 124, 'nor does one that was a file before');
}

# ---- refused --------------------------------------------------------------

my $strange = Edgehaul::Publisher->new($s, token => $token);
put('zeros.bin', "\0" x 9000, 'product:cam-x version:1.1.0', signed => 'x' x 9000);
put('strange.bin', 'bytes', 'product:cam-x version:1.2.0', by => $strange);
put('nameless.bin', 'bytes', 'what is it?');
put('lower.bin', 'bytes', 'product:cam-x version:0.9.0');
put('dots.bin', 'bytes', 'product:../x version:1.9.0');
($rc) = look();
isnt($rc, 0, 'a look that refuses some');
my %why = (zeros => qr/do not fit/, strange => qr/key that may not/,
	nameless => qr/tells what it is/, lower => qr/version check/, dots => qr/tells what it is/);
like(word("$_.bin", 'refused'), $why{$_}, "$_: refused, and why") for sort keys %why;
ok(!has("cam-x/stable/$_"), "no $_") for '1.1.0/zeros.bin', '1.2.0/strange.bin', '0.9.0/lower.bin';
put('zeros.bin', 'x' x 9000, 'product:cam-x version:1.1.0');
is((look())[0], 0, 'mended');
like(word('zeros.bin', 'taken'), qr/1\.1\.0/, 'it is taken then');
is(word('zeros.bin', 'refused'), '', 'and no longer refused');

# ---- keys of its own --------------------------------------------------------

spit($p->conf, slurp($p->conf) . 'drop_keys = ' . $strange->public . "\n");
put('strange.bin', 'bytes', 'product:cam-x version:1.2.0', by => $strange);
put('own.bin', 'bytes', 'product:cam-x version:1.3.0');
isnt((look())[0], 0, 'with drop_keys');
like(word('strange.bin', 'taken'), qr/1\.2\.0/, 'those may');
like(word('own.bin', 'refused'), qr/key that may not/, 'and no others');
spit($p->conf, slurp($p->conf) =~ s/^drop_keys.*\n//mr);

# ---- as a service: what is still written is left alone --------------------

spit($p->conf, slurp($p->conf) =~ s/^drop_interval = .*/drop_interval = 1 s/mr);
my $pid = $p->start('drop', '--watch', $drop);
my $bytes = Edgehaul::Publisher::bytes('slow', 400_000);
spit("$drop/slow.bin.minisig", $fw->sign($bytes, 'product:cam-x version:3.0.0'));
open my $fh, '>:raw', "$drop/slow.bin" or die;
$fh->autoflush(1);
for my $i (0 .. 39) { # never the same at two looks, though this may be slow
	print $fh substr $bytes, $i * 10_000, 10_000;
	Time::HiRes::sleep(0.06);
}
close $fh;
is(word('slow.bin', 'refused'), '', 'not refused while it was written');
ok(wait_for(sub { word('slow.bin', 'taken') }), 'taken when it was whole');
is($fw->read('cam-x/stable/3.0.0/slow.bin'), $bytes, 'byte for byte');
# A signer that is away: later.
$s->stop;
put('late.bin', 'late', 'product:cam-x version:4.0.0');
ok(wait_for(sub { slurp("$p->{dir}/err.$pid") =~ /late\.bin: .*later|cannot be reached/ }),
    'without the signer it waits');
is(word('late.bin', $_), '', "no .$_") for 'taken', 'refused';
$s->start;
ok(wait_for(sub { word('late.bin', 'taken') }), 'and is taken later');
kill 'TERM', $pid;
waitpid $pid, 0;
is($? >> 8, 0, 'SIGTERM ends it');
spit($p->conf, slurp($p->conf) =~ s/^drop_interval = .*/drop_interval = 150 ms/mr);
is_deeply([glob "$p->{dir}/state/drop/*"], [], 'no copies are left');

# ---- mounted by s3fs ------------------------------------------------------

SKIP: {
	skip('kernel: FUSE cannot be used', 6) if $> != 0 || !-r '/dev/fuse' || !-w '/dev/fuse';
	need(6, 's3fs', 'radosgw', 'fusermount');
	my $rgw = Edgehaul->radosgw->bucket('mounted');
	my $dir = Edgehaul->dir('s3fs');
	spit("$dir/pw", "$rgw->{access}:$rgw->{secret}\n");
	chmod 0600, "$dir/pw";
	mkdir "$dir/mnt";
	my ($mrc, undef, $why) = Edgehaul->run('s3fs', 'mounted', "$dir/mnt", '-o', 'url=' . $rgw->endpoint,
	    '-o', 'use_path_request_style', '-o', 'endpoint=us-east-1', '-o', "passwd_file=$dir/pw");
	skip("kernel: s3fs cannot mount here: $why", 6) if $mrc != 0;
	my $unmount = Edgehaul::Unmount->new("$dir/mnt");
	$s->storage('s3', $rgw->storage('mounted'));
	is(($p->run('product', '--product', 'lens', '--storage', 's3'))[0], 0, 'a product in that bucket');
	mkdir "$dir/mnt/drop";
	put('lens.bin', 'lens' x 50_000, 'product:lens version:1.0.0', dir => "$dir/mnt/drop");
	($rc, undef, $err) = look("$dir/mnt/drop");
	is($rc, 0, 'a drop folder in a bucket') or diag($err);
	like($rgw->object('mounted', 'drop/lens.bin.taken')->{body} // '', qr/lens 1\.0\.0/, 'told there, too');
	ok(wait_for(sub { -e "$dir/mnt/firmware/lens/stable/1.0.0/lens.bin" }), 'the mounted bucket shows the release');
	is(slurp("$dir/mnt/firmware/lens/stable/1.0.0/lens.bin"), 'lens' x 50_000, 'by name, with its bytes');
	ok(-s "$dir/mnt/firmware/lens/stable/manifest.json", 'and the manifest');
	undef $unmount;
}
finish;

package Edgehaul::Unmount;
sub new { my ($class, $dir) = @_; return bless { dir => $dir }, $class }
sub DESTROY { local $?; system('fusermount', '-u', '-z', $_[0]{dir}) }
