#!/usr/bin/perl
# A power cut at any moment: what was answered 2xx is there, unaltered
#
# A real proxy has its spool on an ext4 whose disk remembers each write (see
# lib/Edgehaul/Disk.pm). It is started for the first time, takes files from
# several cameras, is drained meanwhile (by t/crash/drainer, then by an agent
# to a real signer), evicts, is killed, loses its index. Then the
# disk is made anew as cuts at many moments would have left it, with writes
# that were not flushed lost, reordered or torn; on each such disk the proxy is
# started by itself and everything is compared with what the cameras know.
#
# EDGEHAUL_IMAGES: how many cuts. EDGEHAUL_SEED repeats a run.
# EDGEHAUL_SYNC_ORDER: the sync_order to test, if not the default.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Aftermath;
use Edgehaul::Daemon;
use Edgehaul::Disk;
use Edgehaul::Load;
use Test::More;
use Time::HiRes qw(time stat);

my $why = Edgehaul::Disk->lacks;
if (defined $why) {
	plan(skip_all => $why)
	    if !$ENV{EDGEHAUL_REQUIRED} || $why =~ /^kernel:/;
	plan(tests => 1);
	fail($why);
	exit 1;
}

my $seed = $ENV{EDGEHAUL_SEED} // int(rand 2**31);
my $images = $ENV{EDGEHAUL_IMAGES} // 40;
my $budget = $ENV{EDGEHAUL_IMAGE_SECS}; # stop cutting after so long
diag("seed $seed");
srand $seed;
alarm((60 + 2 * $images) * Edgehaul::slowness());

my %spool_conf = (max_size => '40 MB', index_size => '2 MB',
	sync_order => $ENV{EDGEHAUL_SYNC_ORDER} // 'portable');
# 32 MB of it are the index of the firmware cache.
my $disk = Edgehaul::Disk->new(mb => 96);
my $state = $disk->mnt . '/state';
my @conf = (conf => { gateway => { state_dir => $state },
	spool => {%spool_conf} });
my $cloud = !grep { !-x Edgehaul::top_builddir() . "/$_/edgehaul-$_" }
    qw(agent signer);
my $gw = $cloud ? Edgehaul->site(@conf, start => 0)
    : Edgehaul->gateway(@conf, signer => 'http://127.0.0.1:9');
my $load = Edgehaul::Load->new(seed => $seed, mark => $disk->log_file,
	address => sub { $gw->lan });
my @phases; # [name, offset at its end]
my (%left, %quarantined, @trouble); # id => offset when it began

sub phase { push @phases, [$_[0], $disk->offset] }

# A drainer beside; its steps are known when it has ended.
sub drain_begin {
	my (@args) = @_;
	my $out = Edgehaul->dir('drainer') . '/steps';
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDOUT, '>', $out;
		open STDERR, '>', "$out.err";
		exec Edgehaul::top_builddir() . '/t/crash/drainer',
		    "$state/spool", '-l', $disk->log_file, @args
		    or POSIX::_exit(127);
	}
	return [$pid, $out];
}

sub drain_end {
	my ($run, $sig) = @_;
	kill $sig, $run->[0] if $sig;
	waitpid $run->[0], 0;
	push @trouble, 'drainer ended with ' . $? if !$sig && $?;
	push @trouble, slurp("$run->[1].err") if -s "$run->[1].err";
	for (split /\n/, slurp($run->[1])) {
		my ($step, $id, $at) = split ' ';
		$left{$id} //= $at if $step eq 'end';
		$quarantined{$id} //= $at if $step eq 'quarantine';
		push @trouble, $_ if $step =~ /^(bad|failed)$/;
	}
}

# What the agent has delivered, and when at the earliest, in seconds.
my %stored;
sub note_stored {
	my $files = $gw->files;
	for my $path (keys %$files) {
		my ($id) = $path =~ /([0-9a-f]{32})/ or next;
		$stored{$id} = (stat $files->{$path})[10];
	}
}

# ---- the run -----------------------------------------------------------------
$gw->proxy->start;
phase('first start');
$load->begin(4, 9)->end;
phase('ingest');
my $drainer = drain_begin('-n', 40);
$load->begin(4, 9)->end;
drain_end($drainer);
phase('ingest and delivery');
$load->begin(3, 5);
select undef, undef, undef, 0.05;
$gw->proxy->kill9->start;
$load->end;
phase('kill -9 and recovery');
$drainer = drain_begin();
$load->begin(2, 6);
select undef, undef, undef, 0.2;
drain_end($drainer, 'KILL');
$load->end;
phase('a dead drainer');
if ($cloud) {
	$gw->agent->start;
	$load->begin(3, 6);
	select undef, undef, undef, 0.15;
	$gw->agent->kill9->start;
	$load->end;
	$gw->drained(10) or push @trouble, 'the agent does not deliver';
	$gw->agent->kill9;
	note_stored();
	phase('a real agent');
}
$gw->proxy->stop;
my $full_at = $disk->offset;
my %small = (max_size => '4 MB', when_full => 'drop-oldest');
$gw->configure(spool => \%small);
$gw->proxy->start;
my (%crowded, %evicted);
# How many give way depends on their sizes.
for (1 .. 8) {
	$crowded{ $_->{n} } = 1 for $load->begin(3, 11)->end;
	%evicted = map { $_ => $full_at }
	    $gw->proxy->new_log =~ /id=([0-9a-f]{32}) evicted/g;
	last if keys %evicted >= 5;
}
$left{$_} //= $full_at for keys %evicted;
phase('eviction');
$gw->configure(spool => { %spool_conf, when_full => 'refuse' });
$gw->proxy->stop;
system 'rm', '-rf', "$state/spool/index";
$gw->proxy->start;
$drainer = drain_begin('-n', 20);
$load->begin(3, 9)->end;
drain_end($drainer);
phase('index made anew');
ok($gw->proxy->stop, 'the proxy stops');
phase('stop');

my @accepted = $load->accepted;
# Where all that could give way is being sent or not yet indexed: 507, 503.
my @refused = grep { $_->{status} !~ /^2/
	&& !($crowded{ $_->{n} } && $_->{status} =~ /^50[37]$/) }
    @{ $load->{answers} };
is(join(' ', map { "$_->{n}:$_->{status}" } @refused), '',
	'every file was answered 2xx') or diag($gw->proxy->log);
is("@trouble", '', 'the drainer had no trouble');
cmp_ok(scalar(keys %left), '>=', 40, 'enough was delivered');
cmp_ok(scalar(keys %evicted), '>=', 5, 'and some evicted');

# ---- the cuts ---------------------------------------------------------------
# Half anywhere, half right after an answer: there a promise is youngest.
my @records = $disk->records;
my $end = $disk->offset;
my @marks = map { $_->{mark} } @accepted;
my ($from) = grep { $_->{at} > 0 } @records;

sub cut_at {
	my ($i) = @_;
	return $records[rand @records]{at} if $i % 2;
	return $marks[rand @marks] if $i % 10;
	return rand $phases[0][1]; # the first start is short
}

sub phase_of {
	my ($at) = @_;
	for (@phases) {
		return $_->[0] if $at <= $_->[1];
	}
	return 'after';
}

my %tally;
my @faults;
my $slowest = 0;

sub check_image {
	my ($at, $mode, $i) = @_;
	my ($image, $when) = $disk->image($at, $mode, $seed + $i);
	my $mnt = $disk->mount_image($image);
	if (!$mnt) {
		$tally{'does not mount'}++;
		return;
	}
	my $dir = Edgehaul->dir('after');
	my $after = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		dir => $dir, conf => {
		gateway => { state_dir => "$mnt/state" },
		spool => {%spool_conf} });
	my $t0 = time;
	my @bad;
	if (eval { $after->proxy->start; 1 }) {
		my $took = time - $t0;
		$slowest = $took if $took > $slowest;
		@bad = Edgehaul::Aftermath->new(gateway => $after,
			spool => "$mnt/state/spool",
			accepted => [grep { $_->{mark} <= $at } @accepted],
			left => { map { $_ => 1 }
				(grep { $left{$_} < $at } keys %left),
				(grep { $stored{$_} <= $when } keys %stored) },
			quarantined => { map { $_ => 1 } grep {
				$quarantined{$_} < $at } keys %quarantined },
			sent => sub { defined $load->sent($_[0]) })->problems;
	} else {
		@bad = ("start: $@");
	}
	$after->proxy->kill9;
	$after->proxy->stop_quietly;
	$disk->umount_image or push @bad, 'cannot unmount';
	my $phase = phase_of($at);
	$tally{$phase}++;
	return if !@bad;
	push @faults, "image $i: $mode at $at of $end, $phase, seed "
	    . ($seed + $i) . ":\n  " . join "\n  ", @bad > 6 ? @bad[0 .. 5] : @bad;
}

my $t0 = time;
my $done = 0;
for my $i (0 .. $images - 1) {
	check_image(int cut_at($i), (qw(prefix drop torn))[$i % 3], $i);
	$done++;
	last if @faults >= 5 || ($budget && time - $t0 > $budget);
}
note("$done images of a log of $end octets, " . scalar(@accepted)
	. ' uploads: ' . join ', ', map { "$_ $tally{$_}" } sort keys %tally);
note(sprintf 'longest start %.2f s, %.2f s an image', $slowest,
	(time - $t0) / ($done || 1));
is(scalar(@faults), 0, "$done power cuts: nothing lost, nothing altered, "
	. 'all balances') or diag(join "\n", @faults);
cmp_ok($slowest, '<', 5 * Edgehaul::slowness(), 'every start was quick');
cmp_ok($tally{'does not mount'} // 0, '<=', 1 + $done / 50,
	'nearly all images mount');
finish;
