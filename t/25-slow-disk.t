#!/usr/bin/perl
# A disk that is slow or stands still: clients are slowed down, not gathered in
# memory and not given up
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Strace;
use Socket qw(SOL_SOCKET SO_SNDBUF);
use Test::More;
use Time::HiRes ();

# A gateway whose writes strace can hold up, or the end of the SKIP block.
sub gateway_to_slow {
	my ($checks) = @_;
	my $why = Edgehaul::Strace->lacks;
	skip($why, $checks) if $why && $why =~ /^kernel/;
	need($checks, 'strace');
	my $gw = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't');
	$gw->proxy->start;
	return $gw;
}

# ---- a form on a slow disk ---------------------------------------------------
SKIP: {
	skip('sanitizers: memory is theirs', 2) if Edgehaul::sanitized();
	my $gw = gateway_to_slow(2);
	my $part = "--b\r\nContent-Disposition: form-data; name=\"f\"; "
	    . "filename=\"f%d\"\r\nContent-Type: image/jpeg\r\n\r\n";
	my $body = join '', map { sprintf($part, $_) . chr(64 + $_) x 1_060_000
		. "\r\n" } 1 .. 12;
	$body .= "--b--\r\n";
	my $before = $gw->proxy->proc('RssAnon');
	my $strace = Edgehaul::Strace->attach($gw->proxy->pid, 'pwritev',
		'delay_enter=300000');
	my $c = Edgehaul::Raw->new($gw->lan, timeout => 60);
	$c->send("POST /upload/form/ HTTP/1.1\r\nHost: x\r\nContent-Type: "
		. 'multipart/form-data; boundary=b' . "\r\nContent-Length: "
		. length($body) . "\r\n\r\n");
	my $most = 0;
	for (my $off = 0; $off < length $body; $off += 65536) {
		$c->send(substr $body, $off, 65536) or last;
		my $now = $gw->proxy->proc('RssAnon');
		$most = $now if $now > $most;
	}
	while (!$c->fill(0.05)) {
		my $now = $gw->proxy->proc('RssAnon');
		$most = $now if $now > $most;
		last if $c->{eof};
	}
	my $r = $c->response;
	$strace->detach;
	$gw->proxy->stop;
	is(scalar(@{ $r->{json}{uploads} // [] }), 12,
		'a form of twelve files on a slow disk');
	cmp_ok($most - $before, '<', 6144, 'is slowed down, not gathered');
	diag("RssAnon $before kB before, at most $most kB");
}

# ---- many on a slow disk ---------------------------------------------------------
# What waits for the disk is bounded for all together, not for each.
SKIP: {
	skip('sanitizers: memory is theirs', 2) if Edgehaul::sanitized();
	my $gw = gateway_to_slow(2);
	$gw->put("/upload/warm/$_", 'x' x 100_000) for 1 .. 5;
	my $before = my $most = $gw->proxy->proc('RssAnon');
	my $strace = Edgehaul::Strace->attach($gw->proxy->pid, 'pwritev',
		'delay_enter=1000000');
	my @c = map { Edgehaul::Raw->new($gw->lan) } 1 .. 250;
	my %left = map { $_ => "PUT /upload/many/$_ HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: 300000\r\n\r\n" . chr($_ % 256) x 300_000 }
	    0 .. $#c;
	$_->socket->blocking(0) for @c;
	my $round = sub {
		for my $i (keys %left) {
			my $k = syswrite $c[$i]->socket, $left{$i};
			substr($left{$i}, 0, $k, '') if $k;
			delete $left{$i} if $left{$i} eq '';
		}
		my $now = $gw->proxy->proc('RssAnon');
		$most = $now if $now > $most;
		Time::HiRes::sleep(0.01);
		return !%left;
	};
	$round->() for 1 .. 100;
	cmp_ok($most - $before, '<', 12 << 10,
		'250 uploads at a disk that stalls wait in the sockets, not here');
	diag("RssAnon $before kB before, at most $most kB");
	$strace->detach;
	wait_for($round, 30);
	is(scalar(grep { (($_->response // {})->{status} // 0) == 201 } @c), 250,
		'and all are taken when it goes on');
	$gw->proxy->stop;
}

# ---- a disk that stands still --------------------------------------------------
# Cameras give up when nothing is taken from them for 5 s.
SKIP: {
	my $gw = gateway_to_slow(2);
	my $strace = Edgehaul::Strace->attach($gw->proxy->pid, 'pwritev',
		'delay_enter=9000000', 2);
	my $c = Edgehaul::Raw->new($gw->lan, timeout => 60);
	setsockopt($c->socket, SOL_SOCKET, SO_SNDBUF, 16384);
	my $size = 3_000_000;
	$c->send("PUT /upload/still/x HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: $size\r\n\r\n");
	my ($longest, $begun, $sent) = (0, Time::HiRes::time(), 0);
	while ($sent < $size && Time::HiRes::time() - $begun < 9) {
		my $t0 = Time::HiRes::time();
		$c->send('x' x 4096) or last;
		$sent += 4096;
		my $took = Time::HiRes::time() - $t0;
		$longest = $took if $took > $longest;
		Time::HiRes::sleep(0.002);
	}
	$c->send('x' x ($size - $sent)) if $sent < $size;
	diag("$sent octets went out while the disk stood still");
	cmp_ok($longest, '<', 5, 'while the disk stands still, something is '
		. 'taken every 5 s') if $sent < $size;
	is($c->response->{status}, 201, 'and the upload ends well');
	$strace->detach;
	$gw->proxy->stop;
}

# The same for more cameras than may wait in memory together, each as slow as
# cameras are: the kernel's buffers grow with the speed.
SKIP: {
	my $gw = gateway_to_slow(3);
	my $strace = Edgehaul::Strace->attach($gw->proxy->pid, 'pwritev',
		'delay_enter=9500000');
	my $size = 3_000_000;
	my @c = map { my $c = Edgehaul::Raw->new($gw->lan, timeout => 60);
		setsockopt($c->socket, SOL_SOCKET, SO_SNDBUF, 16384);
		$c->send("PUT /upload/many/$_ HTTP/1.1\r\nHost: x\r\n"
			. "Content-Length: $size\r\n\r\n");
		$c->socket->blocking(0);
		$c } 1 .. 24;
	my $begun = Time::HiRes::time();
	my @left = ($size) x @c;
	my @last = ($begun) x @c;
	my $longest = 0;
	while ((my $now = Time::HiRes::time()) < $begun + 9) {
		for my $i (0 .. $#c) {
			my $k = syswrite $c[$i]->socket, 'x' x 1024;
			$left[$i] -= $k // 0;
			$last[$i] = $now if $k;
			$longest = $now - $last[$i]
			    if $now - $last[$i] > $longest;
		}
		Time::HiRes::sleep(0.01);
	}
	$strace->detach;
	# 8 s without it; some slack for a machine that has no time
	cmp_ok($longest, '<', 6.5, '24 cameras: something is taken of each');
	cmp_ok((sort { $a <=> $b } @left)[0], '>', 0, 'which had more to send');
	$_->socket->blocking(1) for @c;
	$c[$_]->send('x' x $left[$_]) for 0 .. $#c;
	is(scalar(grep { (($_->response // {})->{status} // 0) == 201 } @c), 24,
		'and all end well');
	$gw->proxy->stop;
}
finish;
