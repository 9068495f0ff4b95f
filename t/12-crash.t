#!/usr/bin/perl
# Nothing is lost or doubled when daemons die at any moment
#
# 500 files of 1 B to 5 MB come from 32 connections; meanwhile proxy, agent and
# signer are killed (SIGKILL) and started again at random moments. Every file
# that was answered 2xx must be in the store once with its bytes, and no id may
# stand under two keys. A camera that got no answer sends again; what it sent
# then may be there twice, under two ids. EDGEHAUL_SEED repeats a run.
use strict;
use warnings;
use Edgehaul;
use Test::More;
use Time::HiRes qw(time sleep);

my $seed = $ENV{EDGEHAUL_SEED} // int(rand 2**31);
diag("seed $seed");
my $slow = Edgehaul::slowness() > 1;
my $files = $ENV{EDGEHAUL_FILES} // ($slow ? 150 : 500);
my $connections = 32;
my $kills = $slow ? 4 : 9;

my $site = Edgehaul->site(conf => {
	spool => { max_size => '2 GB' },
	limits => { max_connections => 256 },
});

# Sizes and bytes of a file follow from seed and number alone: most are small,
# some have megabytes, one of each kind is at the edges.
sub size_of {
	my ($n) = @_;
	return (1, 2, 65536, 65537, 5 << 20)[$n] if $n < 5;
	srand($seed + $n);
	return 1 + int(rand() ** 6 * (5 << 20)) if $n % 5 == 0;
	return 1 + int rand 40_000;
}

sub body_of {
	my ($n) = @_;
	my $size = size_of($n);
	my $unit = "$seed:$n:" . sha256_hex("$seed:$n");
	return substr $unit x (1 + $size / length $unit), 0, $size;
}

# One camera: puts its files one after the other on a kept connection, again
# after a failure, and writes a line for each 2xx.
sub camera {
	my ($me, $out) = @_;
	my $c;
	my $end = time + 90 * Edgehaul::slowness();
	for (my $n = $me; $n < $files; $n += $connections) {
		my $body = body_of($n);
		my $r;
		while (time < $end) {
			$c //= Edgehaul::Raw->new($site->lan);
			$r = $c && $c->put("/upload/cam-$me/$n.bin", $body,
				type => 'application/x-test');
			last if $r && $r->{status} =~ /^2/;
			$c = undef;
			sleep 0.05 + 0.2 * rand;
		}
		sleep 0.5 * rand; # so that the kills fall among the uploads
		my $ok = $r && $r->{status} =~ /^2/;
		print $out join(' ', $n, $ok ? ($r->{status}, $r->{json}{id})
			: ($r ? $r->{status} : 0, '-')), "\n";
	}
}

my $dir = Edgehaul->dir('cameras');
my @children;
for my $me (0 .. $connections - 1) {
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		$SIG{TERM} = 'DEFAULT';
		open my $out, '>', "$dir/$me" or POSIX::_exit(2);
		$out->autoflush(1);
		eval { camera($me, $out); 1 } or print STDERR $@;
		close $out;
		POSIX::_exit(0);
	}
	push @children, $pid;
}

srand($seed);
my %killed;
for (1 .. $kills) {
	sleep 0.1 + rand 0.5;
	my $who = qw(proxy agent signer)[rand 3];
	$killed{$who}++;
	my $daemon = $site->$who;
	$daemon->kill9;
	sleep rand 0.2;
	ok(eval { $daemon->start }, "$who starts again after kill -9")
	    or diag($@);
}
waitpid $_, 0 for @children;

my (%answered, @refused);
for my $me (0 .. $connections - 1) {
	for (split /\n/, slurp("$dir/$me")) {
		my ($n, $status, $id) = split / /;
		if ($id eq '-') {
			push @refused, $n;
		} else {
			$answered{$id} = $n;
		}
	}
}
is(scalar(keys %answered), $files, 'every file was answered 2xx in the end')
    or diag('without an answer: @refused');
ok($site->drained(120), 'the queue drains') or diag(json_encode($site->status));
is($site->unbalanced, '', 'the ledger balances');

# ---- compare the store with what was answered ------------------------------
my $stored = $site->files;
my (%keys_of, %right);
for my $path (keys %$stored) {
	my ($id, $n) = $path =~ /([0-9a-f]{32})-(\d+)\.bin/ or next;
	push @{ $keys_of{$id} }, $path;
	my $body = slurp($stored->{$path});
	$right{$id}++ if $body eq body_of($n);
}
my @lost = grep { !$keys_of{$_} } keys %answered;
my @twice = grep { @{ $keys_of{$_} } != 1 } keys %keys_of;
my @wrong = grep { !$right{$_} } keys %keys_of;
my @torn = grep { ($right{$_} // 0) != 1 } keys %answered;
is("@lost[0 .. ($#lost > 5 ? 5 : $#lost)]", '', 'none answered 2xx is missing');
is("@twice", '', 'none is there under two keys');
is("@wrong", '', 'no object has wrong bytes');
is(scalar(@torn), 0, 'each that was answered is there with its bytes');
my $more = keys(%keys_of) - keys(%answered);
note("$more sent again because an answer was lost; killed: "
	. join ', ', map { "$_ $killed{$_}" } sort keys %killed);
is(scalar(glob $site->spool . '/incoming/*') // '', '', 'incoming/ is empty');
finish;
