#!/usr/bin/perl
# Disk and index fail in each way: an answer that is true, nothing left behind,
# and all is well again by itself
#
# Faults come from strace (one system call of the running proxy fails), from a
# small file system, from a process that holds the index's lock or is stopped,
# and from bits that flip in files.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Aftermath;
use Edgehaul::Load;
use Edgehaul::Strace;
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

my $seed = $ENV{EDGEHAUL_SEED} // int(rand 2**31);
diag("seed $seed");
my $drainer = Edgehaul::top_builddir() . '/t/crash/drainer';
my $no_strace = Edgehaul::Strace->lacks;
$ENV{ASAN_OPTIONS} = 'detect_leaks=0' if !$no_strace;
alarm(300 * Edgehaul::slowness());

sub new_gateway {
	my (%spool) = @_;
	my $gw = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		dir => Edgehaul->dir('box'), conf => {
		spool => { max_size => '64 MB', index_size => '2 MB', %spool },
		gateway => {} });
	my $load = Edgehaul::Load->new(seed => $seed,
		address => sub { $gw->lan }, sizes => [300, 1_300_000, 0, 70_000]);
	return ($gw, $load);
}

# One file as the load would send it; the answer's status, 0: none.
sub send_one {
	my ($gw, $load) = @_;
	my $n = $load->{next}++;
	my $body = $load->body($n);
	$load->{sha}{ sha256_hex($body) } = $n;
	my $r = $gw->put('/upload/' . $load->name_of($n), $body);
	push @{ $load->{answers} }, { n => $n, status => $r->{status},
		id => $r->{json}{id}, size => length $body,
		sha256 => sha256_hex($body), name => $load->name_of($n) } if $r;
	return $r ? $r->{status} : 0;
}

sub problems {
	my ($gw, $load, %o) = @_;
	return join '; ', Edgehaul::Aftermath->new(gateway => $gw,
		spool => $gw->spool, accepted => [$load->accepted],
		sent => sub { defined $load->sent($_[0]) }, %o)->problems;
}

# The index's thread is the second one.
sub index_thread {
	my ($pid) = @_;
	return (sort { $a <=> $b } map { m{(\d+)$} }
		glob "/proc/$pid/task/*")[1];
}

sub item_files { my ($gw) = @_; return glob $gw->spool . '/item/*/*' }

sub drain {
	my ($gw, @args) = @_;
	my ($rc, $out, $err) = Edgehaul::Daemon->run($drainer, $gw->spool,
		@args);
	diag($err) if $err ne '';
	my %left;
	for (split /\n/, $out) {
		my ($step, $id) = split ' ';
		$left{$id} = $step if $step =~ /^(end|bad|quarantine)$/;
	}
	return ($rc, \%left);
}

SKIP: {
	skip($no_strace, 1) if $no_strace && $no_strace =~ /^kernel/;
	need(1, 'strace');

	# ---- each call of an upload fails once -------------------------------
	my ($gw, $load) = new_gateway();
	$gw->proxy->start;
	my (%told, @wrong, @twice);
	my $tries = 0;
	for my $point ([openat => 'EIO'], [openat => 'EMFILE'],
		[pwritev => 'EIO'], [pwritev => 'ENOSPC'],
		[pwritev => 'EDQUOT'], [fdatasync => 'EIO'],
		[fdatasync => 'ENOSPC'], [fsync => 'EIO'],
		[renameat => 'EIO'], [renameat => 'ENOSPC'],
		[fsync => 'ENOSPC']) {
		my ($call, $error) = @$point;
		my $strace = Edgehaul::Strace->attach($gw->proxy->pid, "$call",
			"error=$error", 1);
		for my $size (0, 1) { # a small and a large one, or the reverse
			my $before = () = item_files($gw);
			my $status = send_one($gw, $load);
			$told{$status}++;
			$tries++;
			push @wrong, "$call $error: answered $status"
			    if $status !~ /^(201|500|507)$/
			    && "$error $status" ne 'EMFILE 503'
			    || $status == 500 && $error =~ /NOSPC|DQUOT/;
			my $after = () = item_files($gw);
			push @wrong, "$call $error: answered $status, "
			    . ($after - $before) . ' files more'
			    if $after - $before != ($status == 201);
		}
		my $log = $strace->log;
		$strace->detach;
		push @wrong, "$call $error: nothing failed"
		    if $log !~ /INJECTED/;
		my $status = send_one($gw, $load);
		push @wrong, "after $call $error: $status" if $status != 201;
	}
	# On a slow disk bodies are waited for before the sync, and the kernel
	# tells a failed write but once.
	{
		my $strace = Edgehaul::Strace->attach($gw->proxy->pid, 'fsync',
			'delay_exit=20000');
		my @status = send_one($gw, $load);
		$strace->detach;
		$strace = Edgehaul::Strace->attach($gw->proxy->pid,
			'sync_file_range', 'error=EIO');
		my $before = () = item_files($gw);
		push @status, send_one($gw, $load);
		my $after = () = item_files($gw);
		my $waits = () = $strace->log =~ /WAIT_AFTER.*INJECTED/g;
		$strace->detach;
		push @status, send_one($gw, $load), $waits, $after - $before;
		push @wrong, "a body that is not written: @status"
		    if "@status" ne '201 500 201 1 0';
		$told{500}++;
	}
	is(join("\n", @wrong), '', "$tries uploads with a failing call: "
		. 'told, nothing left behind, the next one is taken');
	cmp_ok($told{500} // 0, '>=', 3, 'disk faults are answered 500');
	cmp_ok($told{507} // 0, '>=', 3, 'want of room is answered 507');
	is(problems($gw, $load), '', 'all that was accepted is there');

	# ---- a failed sync is final ------------------------------------------
	my $strace = Edgehaul::Strace->attach($gw->proxy->pid,
		'fdatasync,fsync', 'error=EIO', '1+', paths => 1);
	my %status;
	for (1 .. 12) {
		my $s = send_one($gw, $load);
		$status{$s}++;
		last if $s == 503;
	}
	my %synced;
	$synced{$_}++ for grep { m{/incoming/} }
	    $strace->log =~ /sync\(\d+<([^>]*)>\)\s+= -1 EIO/g;
	is(join(' ', grep { $synced{$_} > 1 } keys %synced), '',
		'no file is synced again after a sync that failed');
	ok($status{500} && $status{503},
		'uploads fail, then ingest rests with 503')
	    or diag(json_encode(\%status));
	$strace->detach;
	ok(wait_for(sub { send_one($gw, $load) == 201 }, 10),
		'and takes uploads again by itself');
	is(problems($gw, $load), '', 'nothing was lost by it');

	# ---- one file of those to recover cannot be read ---------------------
	my @three = map { send_one($gw, $load) && $load->{answers}[-1] } 1 .. 3;
	$gw->proxy->kill9; # before their rows come, mostly
	my $seq = substr $three[1]{id}, 16;
	my $path = $gw->spool . '/item/' . substr($seq, 0, 13) . "/$seq";
	{
		local $ENV{EDGEHAUL_PROXY_WRAP} = 'strace -f -qq -o /dev/null '
		    . "-P $path -e trace=pread64 -e inject=pread64:error=EIO";
		ok(eval { $gw->proxy->start; 1 },
			'a file that cannot be read does not stop the start')
		    or diag($@);
	}
	my ($proxy_pid) = $gw->proxy->new_log =~ /\bready\b.*pid=(\d+)/;
	kill 'TERM', $proxy_pid;
	wait_for(sub { !$gw->proxy->running });
	$gw->proxy->start;
	my %perhaps = ($three[1]{id} => 1);
	is(problems($gw, $load, quarantined => \%perhaps), '',
		'all have rows, it is at most in quarantine');
	@{ $load->{answers} } = grep { !$perhaps{ $_->{id} // '' } }
	    @{ $load->{answers} };

	# ---- the index's writes fail -----------------------------------------
	for my $point ([fdatasync => 1], [fdatasync => '1..3'],
		[pwrite64 => 1], [pwrite64 => 2], [pwrite64 => 3],
		[pwritev => 1], [pwrite64 => '1+']) {
		my ($call, $when) = @$point;
		my $pid = $gw->proxy->pid;
		my $s = Edgehaul::Strace->attach($pid, $call, 'error=EIO',
			$when, tid => index_thread($pid));
		my @status = map { send_one($gw, $load) } 1 .. 4;
		wait_for(sub { $s->log =~ /INJECTED/ }, 3);
		$s->detach;
		is("@status", '201 201 201 201',
			"$call $when of the index fails: uploads go on");
		is(problems($gw, $load, quarantined => \%perhaps), '', 'and their rows come by themselves');
	}
	$gw->proxy->stop;
}

# ---- the map is full ---------------------------------------------------------
{
	my ($gw) = new_gateway(index_size => '1 MB');
	$gw->proxy->start;
	my $name = '/upload/cam-1/' . join '/', ('n' x 240) x 4;
	my ($status, $why, $n) = (201, '', 0);
	my $c = Edgehaul::Raw->new($gw->lan);
	while ($status == 201 && $n < 3000) {
		my $r = $c->put($name . $n, "body $n");
		($status, $why) = $r ? ($r->{status}, $r->{body}) : (0, '');
		$n++;
	}
	is($status, 507, "after $n uploads the index is full: 507");
	like($why, qr/index full/, 'and the answer says so');
	unlike($gw->proxy->log, qr/a change failed/,
		'no row ever failed for want of room');
	is($gw->unbalanced, '', 'the ledger balances');
	# The more rows a commit has, the more fit: a slow machine has fewer.
	my $many = $n - 1 < 400 ? $n - 1 : 400;
	my ($rc, $left) = drain($gw, '-g', '-n', $many);
	is($rc, 0, 'uploads can be taken out');
	cmp_ok(scalar(keys %$left), '>=', $many, 'many of them');
	ok(wait_for(sub {
		my $r = $gw->put('/upload/cam-1/again', 'again');
		return $r && $r->{status} == 201;
	}, 5), 'then uploads are taken again');
	$gw->proxy->kill9->start;
	is($gw->unbalanced, '', 'and after a restart it still balances');
	$gw->proxy->stop;
}

# ---- the other process: stopped, dead ---------------------------------------
sub holder {
	my ($gw, $what) = @_;
	my $pid = open(my $fh, '-|', $drainer, $gw->spool, 'hold', $what)
	    or die "$drainer: $!";
	my $line = <$fh>;
	die "drainer hold: no\n" if ($line // '') ne "held\n";
	return ($pid, $fh);
}

{
	my ($gw, $load) = new_gateway();
	$gw->proxy->start;
	is(send_one($gw, $load), 201, 'an upload before');
	for my $what (qw(read write)) {
		my ($pid, $fh) = holder($gw, $what);
		kill 'STOP', $pid;
		my @status = map { send_one($gw, $load) } 1 .. 20;
		is(scalar(grep { $_ == 201 } @status), 20,
			"a process stopped in a $what transaction: 201s go on");
		kill 'KILL', $pid;
		waitpid $pid, 0;
		close $fh;
		is(problems($gw, $load), '',
			'and when it is dead their rows come');
	}
	# Nobody lets go: uploads are refused before too much is in hand.
	my ($pid, $fh) = holder($gw, 'write');
	is(send_one($gw, $load), 201, 'held again');
	my ($last) = wait_for(sub {
		my $s = send_one($gw, $load);
		select undef, undef, undef, 0.3;
		return $s == 201 ? 0 : $s;
	}, 15);
	is($last, 503, 'after ten seconds without the index: 503');
	kill 'KILL', $pid;
	waitpid $pid, 0;
	ok(wait_for(sub { send_one($gw, $load) == 201 }, 5),
		'and 201 when it is free');
	is(problems($gw, $load), '', 'nothing was lost');
	$gw->proxy->stop;
}

# ---- a small disk fills up ---------------------------------------------------
SKIP: {
	need_root(1);
	my ($gw, $load) = new_gateway(free_floor => '0 B');
	my $at = "$gw->{dir}/state";
	skip('kernel: cannot mount tmpfs', 1)
	    if system("mount -t tmpfs -o size=12m tmpfs $at 2>/dev/null") != 0;
	$gw->proxy->start;
	my ($status, $n) = (201, 0);
	$status = send_one($gw, $load) while $status == 201 && ++$n < 100;
	is($status, 507, "disk full after $n uploads: 507");
	is(join(' ', glob $gw->spool . '/incoming/*'), '',
		'nothing stays in incoming/');
	my ($rc, $left) = drain($gw, '-g', '-n', 8);
	is($rc, 0, 'on the full disk uploads can be taken out');
	ok(wait_for(sub { send_one($gw, $load) == 201 }, 8),
		'then one is taken again');
	is(problems($gw, $load, left => $left), '', 'nothing was lost');
	$gw->proxy->stop;
	wait_for(sub { system("umount $at 2>/dev/null") == 0 }, 5);
}

# ---- garbage in the index ------------------------------------------------------
# LMDB does not check its pages. Whatever it makes of garbage, an error, a row
# that is none, a crash: after some starts, as a service manager makes them, all
# is there again.
SKIP: {
	skip('sanitizers: they take the crash that is expected here', 1)
	    if Edgehaul::sanitized();
	my ($gw, $load) = new_gateway(index_size => '1 MB');
	$load->{sizes} = [90];
	$gw->proxy->start;
	$load->begin(4, 50)->end;
	$gw->proxy->stop;
	my $spool = $gw->spool;
	my $good = Edgehaul->dir('kept') . '/spool';
	system('cp', '-a', $spool, $good) == 0 or die 'cp';
	my (@bad, $starts);
	srand $seed;
	for my $round (1 .. ($ENV{EDGEHAUL_FULL} ? 100 : 12)) {
		system 'rm', '-rf', $spool;
		system 'cp', '-a', $good, $spool;
		my $page = 2 + int rand($round % 3 ? 12 : 30);
		my $n = $round % 2 ? 4096 : 40;
		open my $fh, '+<:raw', "$spool/index/data.mdb" or die;
		seek $fh, 4096 * $page + ($n == 40 ? int rand 4000 : 0), 0;
		print $fh join '', map { chr int rand 256 } 1 .. $n;
		close $fh;
		my $why = 'never started';
		for (1 .. 4) {
			$starts++;
			next if !eval { $gw->proxy->start; 1 };
			my $over = wait_for(sub {
				return 1 if !$gw->proxy->running;
				$why = eval { problems($gw, $load) } // $@;
				return $why eq '' ? 2 : 0;
			}, 3) // 0;
			last if $over == 2;
		}
		push @bad, "page $page, $n octets: $why" if $why ne '';
		$gw->proxy->kill9;
	}
	is(join("\n", @bad), '', "garbage in the index: all is there again, "
		. "$starts starts");
}

# ---- bits flip in what waits ---------------------------------------------------
sub damage {
	my ($path, $how) = @_;
	open my $fh, '+<:raw', $path or die "$path: $!";
	if ($how eq 'body') {
		seek $fh, 100, 0;
		read $fh, my $c, 1;
		seek $fh, 100, 0;
		print $fh chr(ord($c) ^ 8);
	} else {
		truncate $fh, (-s $path) - 10;
	}
	close $fh;
}

sub spoil {
	my ($gw, $load, @which) = @_;
	$load->{next} = 4 if !$load->{next};
	my @ok = map { send_one($gw, $load) } 1 .. 8;
	is("@ok", '201 ' x 7 . '201', 'eight are accepted');
	wait_for(sub { $gw->status->{spool}{not_indexed} == 0 }, 5);
	my @large = grep { $_->{size} > 1000 } $load->accepted;
	my %spoiled;
	for my $how (@which) {
		my $id = (shift @large)->{id};
		my $seq = substr $id, 16;
		damage($gw->spool . '/item/' . substr($seq, 0, 13) . "/$seq",
			$how);
		$spoiled{$id} = $how;
	}
	return %spoiled;
}

{
	my ($gw, $load) = new_gateway();
	$gw->proxy->start;
	my %spoiled = spoil($gw, $load, 'body', 'footer');
	my ($rc, $left) = drain($gw, '-g');
	is(join(' ', sort grep { $left->{$_} eq 'bad' } keys %$left),
		join(' ', sort keys %spoiled),
		'a flipped bit and a torn footer: these two are found');
	my $l = $gw->ledger;
	is("$l->{delivered} $l->{quarantined} $l->{waiting}", '6 2 0',
		'they are in quarantine, the others delivered');
	$gw->proxy->stop;
}

if (-x Edgehaul::top_builddir() . '/agent/edgehaul-agent'
    && -x Edgehaul::top_builddir() . '/signer/edgehaul-signer') {
	my $site = Edgehaul->site(name => 'gw-2', start => 0,
		dir => Edgehaul->dir('site'));
	my $load = Edgehaul::Load->new(seed => $seed + 1,
		address => sub { $site->lan }, sizes => [300, 1_300_000, 0, 70_000]);
	$site->proxy->start;
	my %spoiled = spoil($site, $load, 'body', 'footer');
	$site->agent->start;
	ok($site->drained(20, 6), 'the agent delivers the others')
	    or diag(json_encode($site->ledger));
	is($site->ledger->{quarantined}, 2, 'and puts the two into quarantine');
	my $files = $site->files;
	is(scalar(grep { my $p = $_; grep { index($p, $_) >= 0 }
		keys %spoiled } keys %$files), 0,
		'nothing of them is in the store');
	is($site->unbalanced, '', 'the ledger balances');

	$site->agent->signal('STOP');
	my @status = map { send_one($site, $load) } 1 .. 30;
	is(scalar(grep { $_ == 201 } @status), 30,
		'the agent is stopped: 201s go on');
	$site->agent->signal('CONT');
	ok($site->drained(20, 36), 'and all is delivered when it goes on')
	    or diag(json_encode($site->ledger));

	# The proxy makes the index anew under the running agent.
	$site->proxy->stop;
	system 'rm', '-rf', $site->spool . '/index';
	$site->proxy->start;
	is(send_one($site, $load), 201, 'index lost: one more');
	ok($site->drained(10, 1), 'and the agent goes on with the new index')
	    or diag(json_encode($site->ledger));
}
finish;
