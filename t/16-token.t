#!/usr/bin/perl
# token_file is read again on 401 and on SIGHUP, without a restart
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $site = Edgehaul->site(token => 'from-last-year');
my $agent = $site->agent;
my $pid = $agent->pid;
my $good = $site->signer->token('gateway', '--gateway', 'gw-1');

# ---- on 401 ----------------------------------------------------------------
is($site->put('/upload/cam-1/a.jpg', jpeg())->{status}, 201, 'an upload');
ok(wait_for(sub { $agent->log =~ /401/ }), 'the token is refused');
spit($site->{token_file}, "$good\n");
ok($site->drained(60, 1), 'a new token in the file: it goes out by itself');

# ---- on SIGHUP -------------------------------------------------------------
spit($site->{token_file}, "broken-again\n");
$agent->hup;
my $refusals = () = $agent->log =~ /401/g;
is($site->put('/upload/cam-1/b.jpg', jpeg())->{status}, 201, 'an upload');
ok(wait_for(sub {
	my $now = () = $agent->log =~ /401/g;
	$now > $refusals;
}), 'SIGHUP took the file as it is, so the next token is refused');
is($site->ledger->{waiting}, 1, 'the file waits');
spit($site->{token_file}, "$good\n");
$agent->hup;
ok($site->drained(30, 2), 'SIGHUP with a good one: it goes out at once');
is($agent->pid, $pid, 'the same process all the time');
ok($agent->running, 'which runs');

# ---- a file that went away -------------------------------------------------
unlink $site->{token_file};
$agent->hup;
is($site->put('/upload/cam-1/c.jpg', jpeg())->{status}, 201, 'an upload');
ok(wait_for(sub { $agent->log =~ /\Q$site->{token_file}\E/ }),
	'a token file that is gone is named in the log');
ok($agent->running, 'the agent goes on');
spit($site->{token_file}, "$good\n");
$agent->hup;
ok($site->drained(60, 3), 'everything arrives');
unlike($agent->log, qr/\Q$good\E/, 'no token in the log');
finish;
