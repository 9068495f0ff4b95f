#!/usr/bin/perl
# SIGKILL at every system call: what was answered 2xx is there afterwards
#
# The proxy, or what drains its spool, is killed at the first, second, third
# ... of each kind of system call, by strace, so the call itself is not carried
# out. Then the proxy is started by itself and everything is compared with what
# was answered. One spool goes through all of it, so damage would add up.
#
# EDGEHAUL_FULL=1 takes each point; else those that fit into some seconds.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Aftermath;
use Edgehaul::Load;
use Edgehaul::Strace;
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

my $why = Edgehaul::Strace->lacks;
plan(skip_all => $why)
    if defined $why && (!$ENV{EDGEHAUL_REQUIRED} || $why =~ /^kernel:/);
die "$why\n" if defined $why;

my $full = $ENV{EDGEHAUL_FULL};
my $seed = $ENV{EDGEHAUL_SEED} // int(rand 2**31);
diag("seed $seed");
srand $seed;
alarm(1200) if $full;
# Leaks cannot be looked for under ptrace.
$ENV{ASAN_OPTIONS} = 'detect_leaks=0';

my @conf = (signer => 'http://127.0.0.1:9', conf => { spool => {
	max_size => '256 MB', index_size => '2 MB' } });
my $gw = Edgehaul->gateway(@conf);
my $load = Edgehaul::Load->new(seed => $seed, address => sub { $gw->lan },
	sizes => [5, 1_300_000, 0, 70_000, 300, 20_000]);
my (%left, %quarantined);
my $points = 0;

sub problems {
	my ($g, @accepted) = @_;
	my @bad = Edgehaul::Aftermath->new(gateway => $g, spool => $g->spool,
		accepted => \@accepted, left => \%left,
		quarantined => \%quarantined,
		sent => sub { defined $load->sent($_[0]) })->problems;
	return @bad;
}

# Each call the first time it is made, then the second time ... until a call is
# not made that often. Where time is short not all of them, but ten.
sub try_points {
	my ($calls, $secs, $one) = @_;
	my $end = time + $secs * Edgehaul::slowness();
	my ($from, @active) = ($points, @$calls);
	for (my $n = 1; @active && $n < 300; $n += $full || $n < 4 ? 1
		: 1 + int rand 3) {
		my @next;
		for my $call (@active) {
			if (!$full && time > $end && $points - $from >= 10) {
				note("from $n on no time for @active");
				return;
			}
			next if !$one->($call, $n);
			$points++;
			push @next, $call;
		}
		@active = @next;
	}
}

# What a drainer does; its exit status.
sub drain {
	my ($args, @wrap) = @_;
	my ($rc, $out) = Edgehaul::Daemon->run(@wrap,
		Edgehaul::top_builddir() . '/t/crash/drainer', $gw->spool,
		@$args);
	for (split /\n/, $out) {
		my ($step, $id) = split ' ';
		$left{$id} = 1 if $step eq 'end';
		fail("drainer: $_") if $step =~ /^(bad|failed)$/;
	}
	return $rc;
}

# So that the checks do not get slower and slower.
sub empty_spool {
	is(drain(['-g']), 0, 'what waits is drained');
	my %done = (%left, %quarantined);
	@{ $load->{answers} } = grep { !$done{ $_->{id} // '' } }
	    @{ $load->{answers} };
}

# ---- one upload ------------------------------------------------------------
my @writing = qw(openat pwritev pwrite64 fdatasync fsync mkdirat renameat
    write writev sendto fchmod close);

# One file is sent while strace waits for the call; was the proxy killed?
sub kill_in_upload {
	my ($call, $n, $only) = @_;
	my $proxy = $gw->proxy;
	my @tids = sort { $a <=> $b } map { m{(\d+)$} }
	    glob '/proc/' . $proxy->pid . '/task/*';
	my $strace = Edgehaul::Strace->attach($proxy->pid, $call,
		'signal=KILL', $n, defined $only ? (tid => $tids[$only]) : ());
	my $m = $load->{next}++;
	my $body = $load->body($m);
	$load->{sha}{ sha256_hex($body) } = $m;
	my $r = eval { $gw->put('/upload/' . $load->name_of($m), $body) };
	push @{ $load->{answers} }, { id => $r->{json}{id}, status => 201,
		size => length $body, sha256 => sha256_hex($body),
		name => $load->name_of($m) } if $r && $r->{status} == 201;
	# Its row comes within a second.
	Edgehaul::wait_for(sub {
		return 1 if !$proxy->running;
		my $s = eval { Edgehaul::http('GET',
			$gw->url('/-/status.json'), timeout => 2)->{json} };
		return $s && !$s->{spool}{not_indexed};
	}, 3);
	# In this order: it may be hit until strace has gone.
	$strace->detach;
	my $killed = Edgehaul::wait_for(sub { !$proxy->running }, 0.3);
	$proxy->start if $killed;
	my @bad = problems($gw, $load->accepted);
	empty_spool() if $full && $load->accepted > 60;
	is("@bad", '', "kill at $call $n"
		. (defined $only ? " of thread $only" : '')) if @bad;
	return $killed;
}

$gw->proxy->start;
try_points(\@writing, 6, sub { kill_in_upload(@_) });
# The thread of the index is the second: its calls come after those of the
# committers, which would be hit first.
try_points([qw(pwrite64 pwritev fdatasync write)], 3,
	sub { kill_in_upload(@_, 1) });
cmp_ok($points, '>=', 10, 'uploads were interrupted');
cmp_ok(scalar($load->accepted), '>=', 3, 'and some were answered');

empty_spool();

# ---- starts ----------------------------------------------------------------
my @starting = qw(mkdir mkdirat fsync fdatasync pwrite64 pwritev write rename
    renameat fallocate fchmod flock unlink unlinkat ftruncate openat);

# A start under strace; was it killed?
sub kill_in_start {
	my ($g, $call, $n) = @_;
	my $proxy = $g->proxy;
	my $log = $proxy->{log_file};
	my $mark = -s $log;
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDERR, '>>', $log;
		open STDOUT, '>>', $log;
		exec 'strace', '-f', '-o', '/dev/null', Edgehaul::Strace::options(
			$call, 'signal=KILL', $n), $proxy->{program},
		    '--config', $g->{config} or POSIX::_exit(127);
	}
	my ($over, $ready);
	Edgehaul::wait_for(sub {
		$over = waitpid($pid, POSIX::WNOHANG()) != 0;
		($ready) = substr(slurp($log), $mark)
		    =~ /\bready\b.*pid=(\d+)/ if !$ready;
		return $over || $ready;
	}, 20);
	# The housework goes on for a moment.
	Edgehaul::wait_for(sub {
		$over ||= waitpid($pid, POSIX::WNOHANG()) != 0;
	}, 0.15) if $ready && !$over;
	return 1 if $over;
	kill 'KILL', $ready || $pid;
	waitpid $pid, 0;
	return 0;
}

sub start_and_check {
	my ($g, $what, @accepted) = @_;
	my @bad = eval { $g->proxy->start; 1 } ? problems($g, @accepted)
	    : ("start: $@");
	is("@bad", '', $what) if @bad;
	$g->proxy->kill9;
}

my $before = $points;
try_points(\@starting, 4, sub {
	my ($call, $n) = @_;
	my $new = Edgehaul->gateway(@conf, dir => Edgehaul->dir('first'));
	my $killed = kill_in_start($new, $call, $n);
	start_and_check($new, "kill at $call $n of the first start");
	$new->proxy->stop_quietly;
	system 'rm', '-rf', $new->{dir};
	return $killed;
});
cmp_ok($points - $before, '>=', 10, 'first starts were interrupted');

# After a kill, so that there is something to recover; then without an index.
for my $lost (0, 1) {
	$before = $points;
	try_points([qw(openat fsync fdatasync pwritev pwrite64 rename unlinkat
	    renameat fallocate write)], 4, sub {
		my ($call, $n) = @_;
		$gw->proxy->start if !$gw->proxy->running;
		empty_spool() if $full && $load->accepted > 60;
		$load->begin(1, 4)->end;
		$gw->proxy->kill9;
		system 'rm', '-rf', $gw->spool . '/index' if $lost;
		my $killed = kill_in_start($gw, $call, $n);
		start_and_check($gw, "kill at $call $n of a start"
			. ($lost ? ' without an index' : ''), $load->accepted);
		return $killed;
	});
	cmp_ok($points - $before, '>=', 5, 'starts were interrupted, '
		. ($lost ? 'index lost' : 'something to recover'));
}

# ---- one step of draining ---------------------------------------------------
# From here on the proxy runs; the drainer is killed.
$gw->proxy->start;
empty_spool();

$before = $points;
try_points([qw(fdatasync unlinkat pwrite64 pwritev write openat pread64)], 4,
	sub {
		my ($call, $n) = @_;
		$load->begin(1, 1)->end;
		my $killed = drain(['-1', '-n', 1], 'strace', '-f', '-o', '/dev/null',
			Edgehaul::Strace::options($call, 'signal=KILL', $n))
		    != 0;
		my @bad = problems($gw, $load->accepted);
		is("@bad", '', "drainer killed at $call $n") if @bad;
		return $killed;
	});
cmp_ok($points - $before, '>=', 5, 'steps of draining were interrupted');
is(drain(['-1', '-n', 1]), 0, 'the next drainer goes on');
my @bad = problems($gw, $load->accepted);
is("@bad", '', "all is well after $points kills, "
	. scalar($load->accepted) . ' uploads');
finish;
