#!/usr/bin/perl
# Image workers that stall, or die again and again, hold up nothing
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $site = Edgehaul->site(conf => { images => { mode => 'lossless' } });
my $csv = join '', map { "2026-01-02T03:04:05Z;$_;" . 3 * $_ . ".5\n" }
    1 .. 5000;
my $sent = 0;
my $slowest = 0;

sub send_one {
	my ($path) = @_;
	my $t = Time::HiRes::time();
	my $r = $site->put("/upload/$path", "$path\n$csv", type => 'text/csv');
	my $took = Time::HiRes::time() - $t;
	$slowest = $took if $took > $slowest;
	die "PUT $path: $r->{status}\n" if $r->{status} != 201;
	$sent++;
	return $r->{json}{id};
}

# All workers of our agent.
sub workers {
	my $agent = $site->agent->pid;
	my @pids;
	for my $dir (glob '/proc/[0-9]*') {
		my $stat = eval { slurp("$dir/stat") } or next;
		my ($pid, $name, $state, $parent) =
		    $stat =~ /^(\d+) \((.*)\) (\S) (\d+)/ or next;
		push @pids, $pid if $name eq 'edgehaul-image'
		    && $parent == $agent && $state ne 'Z';
	}
	return @pids;
}

sub delivered { $site->ledger->{delivered} }

send_one('cam-1/first.csv');
ok($site->drained(30, $sent), 'delivered');
my $most = workers();
cmp_ok($most, '>=', 1, 'by a worker');

# ---- all of them stop, with a file in hand -----------------------------------
kill STOP => workers();
my $begin = Time::HiRes::time();
for my $n (1 .. 10) {
	send_one("cam-stuck/$n.csv");
	send_one("cam-$_/$n.csv") for 1 .. 3;
}
cmp_ok($slowest, '<', 1 * Edgehaul::slowness(), 'uploads are taken as ever');
# what the workers have in hand may wait for them, nothing else
ok(wait_for(sub { delivered() >= $sent - $most }, 25),
	'all but what is in the hands of the workers is delivered')
    or diag(json_encode($site->ledger));
my $took = Time::HiRes::time() - $begin;
cmp_ok($took, '<', 20 * Edgehaul::slowness(), 'before they are given up')
    or diag("$took s");
# and what comes now, too: nobody queues behind them for good
my $before = delivered();
send_one("cam-new-$_/a.csv") for 1 .. 8;
ok(wait_for(sub { delivered() >= $sent - $most }, 15),
	'what comes later as well');
kill CONT => workers();
ok($site->drained(60, $sent), 'they go on, all is delivered');

# ---- all of them die, whenever there are some --------------------------------
$begin = Time::HiRes::time();
$slowest = 0;
for my $n (1 .. 20) {
	send_one("cam-$_/dying-$n.csv") for 1 .. 3;
	kill KILL => workers();
}
ok(wait_for(sub { kill KILL => workers(); delivered() >= $sent }, 25),
	'without any worker all is delivered')
    or diag(json_encode($site->ledger));
cmp_ok($slowest, '<', 1 * Edgehaul::slowness(), 'and taken as ever');
my $n = () = $site->agent->new_log =~ /built without libseccomp/g;
cmp_ok($n, '<=', 1, 'the log tells once what workers lack');
is($site->unbalanced, '', 'the ledger balances');
is(scalar(grep { $_->{state} eq 'quarantined' } $site->queue_ls), 0,
	'nothing is quarantined');
finish;
