#!/usr/bin/perl
# The disk around the spool changes: read-only by an error, filled by others,
# out of inodes, an index that another process made larger, a spool of another
# format: uploads are refused with the reason, and all is well again by itself
# as soon as it can be
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Strace;
use Test::More;

my $drainer = Edgehaul::top_builddir() . '/t/crash/drainer';
my @mounted;
# The leak detector needs ptrace as strace does.
$ENV{ASAN_OPTIONS} = 'detect_leaks=0' if !Edgehaul::Strace->lacks;
alarm(200 * Edgehaul::slowness());

sub new_gateway {
	my (%spool) = @_;
	return Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		dir => Edgehaul->dir('box'), conf => {
		spool => { max_size => '8 MB', index_size => '1 MB', %spool } });
}
my $n = 0;
sub put {
	my ($gw, $size) = @_;
	return $gw->put('/upload/cam-1/' . ++$n, 'x' x ($size // 100)) // {};
}
# Wait until an upload is answered with that status; the answer.
sub until_status {
	my ($gw, $status) = @_;
	my $r;
	return wait_for(sub { $r = put($gw); ($r->{status} // 0) == $status
		and $r }, 10) || $r;
}
sub health { $_[0]->get('/-/health')->{status} }
sub mount_at {
	my ($at, @how) = @_;
	return 0 if system("mount @how $at 2>/dev/null") != 0;
	push @mounted, $at;
	return 1;
}
sub umount {
	my ($at) = @_;
	@mounted = grep { $_ ne $at } @mounted;
	return wait_for(sub { system("umount $at 2>/dev/null") == 0 }, 10);
}
END { local $?; system "umount -l $_ 2>/dev/null" for @mounted; }

# ---- an error makes the file system read-only --------------------------------
SKIP: {
	need_root(1);
	need(1, 'mkfs.ext4');
	my $gw = new_gateway(free_floor => '0 B');
	my ($at, $image) = ("$gw->{dir}/state", "$gw->{dir}/ext4.img");
	system("truncate -s 48M $image && mkfs.ext4 -q -F -m 0 "
		. "-e remount-ro $image") == 0 or die 'mkfs.ext4';
	mount_at($at, '-o', 'loop', $image)
	    or skip('kernel: cannot mount a loop device', 1);
	my ($loop) = `findmnt -n -o SOURCE $at` =~ m{^/dev/(\S+)};
	my $trigger = "/sys/fs/ext4/$loop/trigger_fs_error";
	if (!-w $trigger) {
		umount($at);
		skip('kernel: no trigger_fs_error', 1);
	}
	$gw->proxy->start;
	my @before = map { put($gw, 1000 * $_)->{json} } 1 .. 20;
	is(scalar(grep { $_->{id} } @before), 20, 'uploads before');
	wait_for(sub { $gw->status->{spool}{not_indexed} == 0 });
	spit($trigger, "a test\n");
	my $r = until_status($gw, 503);
	is($r->{status}, 503, 'the file system turns read-only: 503');
	ok(wait_for(sub { put($gw)->{json}{error} =~ /read-only/ }, 5),
		'with the reason');
	ok(wait_for(sub { health($gw) == 503 }, 5), 'health tells it');
	is(put($gw)->{status}, 503, 'and it stays so');
	ok($gw->status->{spool}{failing}, 'and so does status');
	my ($rc, $out) = $gw->ctl('status');
	like($out, qr/cannot|Nothing can be written/i, 'and edgehaul status');
	ok(wait_for(sub { $gw->proxy->log =~ /error.*read-only/ }, 5),
		'and the log');
	is((grep { $_->{id} eq $before[3]{id} } $gw->queue_ls)[0]{size}, 4000,
		'what waits can still be looked at');
	# An aborted ext4 wants a check before it is written again.
	$gw->proxy->stop or $gw->proxy->kill9;
	ok(umount($at), 'its administrator takes it down');
	system("e2fsck -fy $image >/dev/null 2>&1");
	ok(mount_at($at, '-o', 'loop', $image), 'repairs it, and mounts it');
	$gw->proxy->start;
	my %waits = map { $_->{id} => $_->{sha256} } $gw->queue_ls;
	is(scalar(grep { ($waits{ $_->{id} } // '') eq $_->{sha256} } @before),
		20, 'nothing was lost');
	is(put($gw)->{status}, 201, 'and uploads are taken');
	is($gw->unbalanced, '', 'the ledger balances');
	$gw->proxy->stop;
	umount($at);
}

# The same from the system calls, of a file system that can be written again.
SKIP: {
	my $why = Edgehaul::Strace->lacks;
	skip($why, 1) if $why && $why =~ /^kernel/;
	need(1, 'strace');
	my $gw = new_gateway();
	$gw->proxy->start;
	for my $call (qw(openat pwritev renameat)) {
		my $s = Edgehaul::Strace->attach($gw->proxy->pid, $call,
			'error=EROFS', '1+');
		my $r = put($gw);
		is($r->{status}, 503, "$call: EROFS is 503");
		like($r->{json}{error} // '', qr/read-only/, 'and says why');
		$s->detach;
		is(until_status($gw, 201)->{status}, 201,
			'taken again as soon as it can be');
	}
	# The meta page of LMDB: 120 octets, one write. After it fails LMDB
	# refuses all until it is opened anew.
	my ($tid) = (sort { $a <=> $b } map { m{(\d+)$} }
		glob '/proc/' . $gw->proxy->pid . '/task/*')[1];
	my $meta = 0;
	for my $when (1 .. 6) { # one of them is it
		last if $meta;
		my $s = Edgehaul::Strace->attach($gw->proxy->pid, 'pwrite64',
			'error=EIO', $when, tid => $tid);
		put($gw) for 1 .. 2;
		wait_for(sub { $s->log =~ /INJECTED/ }, 3);
		$meta += $s->log =~ /, 120, \d+\)\s+= -1 EIO/;
		$s->detach;
	}
	ok($meta, 'a write of the meta page failed');
	like($gw->proxy->log, qr/reopening after a failed write/,
		'LMDB was opened anew');
	ok(wait_for(sub { $gw->status->{spool}{not_indexed} == 0 }, 10),
		'and all rows came');
	is($gw->unbalanced, '', 'the ledger balances');
	$gw->proxy->stop;
}

# ---- inodes, and a disk that others fill --------------------------------------
SKIP: {
	need_root(1);
	my $gw = new_gateway(free_floor => '4 MB');
	my $at = "$gw->{dir}/state";
	mount_at($at, '-t', 'tmpfs', '-o', 'size=24m,nr_inodes=600', 'tmpfs')
	    or skip('kernel: cannot mount tmpfs', 1);
	$gw->proxy->start;
	is(put($gw)->{status}, 201, 'taken');
	mkdir "$at/others";
	spit("$at/others/$_", '') for 1 .. 500;
	my $r = until_status($gw, 507);
	is($r->{status}, 507, 'few inodes left: 507');
	like($r->{json}{error}, qr/inodes/, 'with the reason');
	is($r->{headers}{'retry-after'}, 60, 'and Retry-After');
	is(health($gw), 503, 'health tells it');
	unlink glob "$at/others/*";
	is(until_status($gw, 201)->{status}, 201, 'freed: taken again');
	is(health($gw), 200, 'and health is well');

	spit("$at/others/large", 'x' x (19 << 20));
	$r = until_status($gw, 507);
	is($r->{status}, 507, 'others fill the disk up to the floor: 507');
	like($r->{json}{error}, qr/disk full/, 'with the reason');
	unlink "$at/others/large";
	is(until_status($gw, 201)->{status}, 201, 'freed: taken again');
	is($gw->unbalanced, '', 'the ledger balances');
	$gw->proxy->stop;
	umount($at);
}

# ---- another process made the map larger -----------------------------------------
{
	my $gw = new_gateway();
	$gw->proxy->start;
	is(put($gw)->{status}, 201, 'taken');
	wait_for(sub { $gw->status->{spool}{not_indexed} == 0 });
	my ($rc, $out, $err) = Edgehaul->run($drainer, $gw->spool, 'grow',
		4 << 20);
	is($rc, 0, 'an index of 1 MB has 5') or diag($err);
	is(until_status($gw, 201)->{status}, 201, 'uploads go on');
	ok(wait_for(sub { $gw->status->{spool}{not_indexed} == 0
		and $gw->ledger->{waiting} >= 2 }, 10), 'and so do their rows');
	is($gw->unbalanced, '', 'the ledger balances');
	$gw->proxy->kill9->start;
	is(put($gw)->{status}, 201, 'also after a restart');
	is($gw->unbalanced, '', 'which it does as well');
	$gw->proxy->stop;
}

# ---- a spool of another format, uploads waiting -------------------------------------
{
	my $gw = new_gateway();
	$gw->proxy->start;
	my @before = map { put($gw, 1000 * $_)->{json} } 1 .. 5;
	$gw->proxy->stop;
	my $format = slurp($gw->spool . '/format');
	for my $other (0, 2) {
		spit($gw->spool . '/format', $format =~ s/spool 1/spool $other/r);
		for my $who (qw(proxy agent)) {
			my $d = $gw->$who;
			$d->launch;
			ok(wait_for(sub { $d->new_log =~
				/spool format $other.*run the version/ }),
				"format $other: the $who says what to do");
			unlike($d->new_log, qr/ ready /, 'and does nothing else')
			    if $who eq 'proxy';
			$d->kill9 if $d->running;
		}
	}
	spit($gw->spool . '/format', $format);
	$gw->proxy->start;
	my %waits = map { $_->{id} => $_->{sha256} } $gw->queue_ls;
	is(scalar(grep { ($waits{ $_->{id} } // '') eq $_->{sha256} } @before),
		5, 'with the right program all is there');
	$gw->proxy->stop;
}
finish;
