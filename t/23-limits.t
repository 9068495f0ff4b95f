#!/usr/bin/perl
# Too many connections, too few descriptors, too slow, too much at once: the
# proxy stays small and goes on serving who behaves
use strict;
use warnings;
use Edgehaul;
use POSIX ();
use Test::More;
use Time::HiRes ();

my $jpeg = jpeg();
my $dir = Edgehaul->dir('gateway', disk => 1);
my $box = Edgehaul->gateway(dir => $dir, signer => 'http://127.0.0.1:9',
	token => 't', conf => { spool => { max_size => '8 GB',
		free_floor => '1 MB' },
		limits => { max_connections => 1200, head_timeout => '2 s' } });
$box->proxy->start;

sub status { my $r = $box->put(@_); return $r ? $r->{status} : 0 }
# Seconds of CPU that the proxy has taken.
sub cpu {
	my @f = split ' ', slurp('/proc/' . $box->proxy->pid . '/stat');
	return ($f[13] + $f[14]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}
sub silent { grep { defined } map { Edgehaul::Raw->new($box->lan) } 1 .. $_[0] }
sub reconfigure {
	$box->configure(@_);
	$box->proxy->reload or fail('the proxy reloads');
}
my $n = 0;

# ---- 500 large uploads, each half sent -------------------------------------
SKIP: {
	skip('sanitizers: memory is theirs', 4) if Edgehaul::sanitized();
	status('/upload/warm/' . ++$n, 'x' x 1_000_000) for 1 .. 5;
	my $before = $box->proxy->proc('RssAnon');
	my ($size, $half, @c) = (1_000_000, 400_000);
	my ($most, $now) = (0);
	for my $i (1 .. 500) {
		my $c = Edgehaul::Raw->new($box->lan) or last;
		my $form = $i % 5 == 0;
		my $head = "--b\r\nContent-Disposition: form-data; name=\"f\"; "
		    . "filename=\"f\"\r\n\r\n";
		$c->send('PUT /upload/half/' . ++$n . " HTTP/1.1\r\nHost: x\r\n"
			. "Content-Length: $size\r\n"
			. ($form ? "Content-Type: multipart/form-data; "
				. "boundary=b\r\n\r\n$head" : "\r\n")
			. 'h' x $half);
		push @c, $c;
		$now = $box->proxy->proc('RssAnon');
		$most = $now if $now > $most;
	}
	is(scalar(@c), 500, '500 uploads of 1 MB are half sent');
	is($box->get('/-/status.json')->{json}{lan}{connections}, 501,
		'and all of them are held');
	# 3 MB are the most that waits for a slow disk, 1 MB that is held
	cmp_ok($most - $before, '<', 12 << 10, 'in under 12 MB of memory');
	diag("RssAnon $before kB before, at most $most kB");
	is(status('/upload/calm/' . ++$n, $jpeg), 201, 'another passes by');
	$_->close for @c;
}
ok(wait_for(sub { $box->get('/-/status.json')->{json}{lan}{connections} < 5 }),
	'they go');
ok(wait_for(sub { (() = glob "$dir/state/spool/incoming/*") == 0 }),
	'and nothing is left of them');

# ---- more connections than are allowed -------------------------------------
{
	reconfigure(limits => { max_connections => 40 });
	my @c = silent(100);
	ok(wait_for(sub { status('/upload/calm/' . ++$n, 'x') == 201 }),
		'over max_connections silent ones make room');
	cmp_ok($box->get('/-/status.json')->{json}{lan}{connections}, '<=', 40,
		'there are no more than that');
	ok(wait_for(sub { !grep { !$_->closed(0.01) } @c }, 10),
		'all the silent ones end by their deadline');
	reconfigure(limits => { max_connections => 1200 });
}

# ---- out of descriptors -------------------------------------------------------
SKIP: {
	need(7, 'prlimit');
	my $open = () = glob '/proc/' . $box->proxy->pid . '/fd/*';
	my $limit = $open + 8;
	Edgehaul->run('prlimit', '--pid', $box->proxy->pid,
		"--nofile=$limit:1024");
	my @c = silent(60);
	$_->send("PUT /upload/emfile/x HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: 1000000\r\n\r\n" . 'x' x 300_000) for @c;
	my $used = cpu();
	sleep 2;
	cmp_ok(cpu() - $used, '<', 0.5 * Edgehaul::slowness(),
		'without descriptors it does not spin');
	ok($box->proxy->running, 'and lives');
	$_->close for @c;
	ok(wait_for(sub { status('/upload/calm/' . ++$n, $jpeg) == 201 }),
		'when they have gone uploads are taken again');
	unlike($box->proxy->new_log, qr/disk fail/, 'no disk was blamed');
	my $lines = () = $box->proxy->new_log =~ /Too many open files/g;
	cmp_ok($lines, '<', 50, 'the log is no flood');
	Edgehaul->run('prlimit', '--pid', $box->proxy->pid,
		'--nofile=1024:1024');

	# a box that gives few from the start
	my $few = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't');
	my $p = $few->proxy;
	unshift @{ $p->{args} }, '--nofile=200:200', $p->{program};
	$p->{program} = Edgehaul::have('prlimit') . '/prlimit';
	$p->start;
	like($p->new_log, qr/max_connections.*LimitNOFILE/,
		'few descriptors: a line tells how many connections fit');
	is($few->put('/upload/a/b', 'x')->{status}, 201, 'and it works');
	$p->stop;
}

# ---- too slow -------------------------------------------------------------------
{
	reconfigure(limits => { min_rate => '20 KB', head_timeout => '1 s' });
	my $c = Edgehaul::Raw->new($box->lan);
	my $t0 = Time::HiRes::time();
	$c->send("PUT /upload/slow/x HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: 1000000\r\n\r\n");
	my $r;
	for (1 .. 60) {
		$c->send('x' x 1000);
		last if $c->fill(0.2);
	}
	$r = $c->response(timeout => 2);
	is($r->{status}, 408, 'slower than min_rate: 408');
	cmp_ok(Time::HiRes::time() - $t0, '<', 10 * Edgehaul::slowness(),
		'within seconds');
	like($box->proxy->new_log, qr/dev=slow upload lost/, 'the log tells');

	$c = Edgehaul::Raw->new($box->lan);
	$c->send("PUT /upload/slow/x HTTP/1.1\r\nHo");
	is($c->response(timeout => 5)->{status}, 408,
		'a head that does not end: 408');
	reconfigure(limits => { min_rate => '500 B', head_timeout => '2 s' });
}

# ---- slowhttptest ------------------------------------------------------------------
SKIP: {
	need(9, 'slowhttptest');
	my %attack = (
		'-H' => ['slow heads', '/'],
		'-B' => ['slow bodies', '/upload/slow/b', '-s', 100000],
		'-X' => ['slow reading', '/-/status.json', '-w', 1, '-y', 2,
			'-n', 1, '-z', 1, '-k', 1],
	);
	for my $kind (sort keys %attack) {
		my ($what, $path, @more) = @{ $attack{$kind} };
		my $pid = fork // die "fork: $!\n";
		if ($pid == 0) {
			open STDOUT, '>', '/dev/null';
			open STDERR, '>', '/dev/null';
			exec 'slowhttptest', $kind, '-c', 300, '-r', 300, '-i', 1,
			    '-l', 5, '-p', 2, '-u', $box->url($path), @more;
		}
		my $end = Time::HiRes::time() + 6;
		my ($good, $bad, $worst) = (0, 0, 0);
		sleep 1;
		while (Time::HiRes::time() < $end) {
			my $t0 = Time::HiRes::time();
			status('/upload/calm/' . ++$n, $jpeg . $n) == 201
			    ? $good++ : $bad++;
			my $took = Time::HiRes::time() - $t0;
			$worst = $took if $took > $worst;
			Time::HiRes::sleep(0.05);
		}
		kill 'TERM', $pid;
		waitpid $pid, 0;
		cmp_ok($good, '>', 10, "slowhttptest $kind ($what): PUTs go on");
		is($bad, 0, 'none is refused');
		cmp_ok($worst, '<', 1 * Edgehaul::slowness(),
			'none takes a second');
	}
}
ok($box->proxy->stop, 'the proxy stops cleanly after all that');

# ---- the largest file that the file system or ulimit -f allows ----------------
SKIP: {
	need(9, 'prlimit');
	local $ENV{EDGEHAUL_PROXY_WRAP} = 'prlimit --fsize=' . (17 << 20);
	my $small = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't', conf => { spool => { max_size => '256 MB' } });
	$small->proxy->start;
	for my $i (1 .. 6) { # more than are taken for a failing disk
		my $r = $small->put("/upload/big/$i", $i x (18 << 20));
		is($r->{status}, 413, "a file that does not fit, $i");
	}
	is($small->put('/upload/small/1', 'x')->{status}, 201,
		'others are taken');
	is($small->unbalanced, '', 'the ledger balances');
	ok($small->proxy->stop, 'the proxy is there and stops');
}
finish;
