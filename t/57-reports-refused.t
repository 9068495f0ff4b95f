#!/usr/bin/perl
# A signer that refuses what it is told: how the gateway is does not hold up what
# became of uploads, and one report that is refused costs few calls and no other
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $cloud = Edgehaul->cloud(rules => { reports => { status => 503 } });
my $gw = Edgehaul->gateway(signer => $cloud->url, token => $cloud->token);
$gw->proxy->start;
$gw->agent->start;

sub calls { $cloud->requests('POST', qr{^/v1/reports$}) }
sub told { map { $_->{id} } map { @{ $_->{json}{reports} } }
	grep { $_->{status} == 200 } calls() }
# Deliver files that nobody hears of, then tell a signer with that rule: the
# calls it took until all but those left out were told.
my $sent = 0;
sub report {
	my ($what, $rule, $left_out, @names) = @_;
	my %id = map { $_ => $gw->put("/upload/cam-1/$_", "$what $_")->{json}{id} }
	    @names;
	ok($gw->drained(30, $sent += @names), "$what: delivered");
	$gw->agent->kill9;
	my $before = calls();
	$cloud->rules(reports => $rule);
	$gw->agent->start;
	delete $id{$left_out};
	ok(wait_for(sub { my %t = map { $_ => 1 } told();
		!grep { !$t{$_} } values %id }, 30), "$what: all are told");
	my %n;
	$n{$_}++ for told();
	is(scalar(grep { $n{$_} > 1 } values %id), 0, "$what: once");
	my $calls = calls() - $before;
	$gw->agent->kill9;
	$cloud->rules(reports => { status => 503 });
	$gw->agent->start;
	return $calls;
}
my @many = map { "f$_.jpg" } 1 .. 64;

# ---- how the gateway is -----------------------------------------------------
my $calls = report('status', { refuse_status => 1 }, '', @many);
cmp_ok($calls, '<=', 3, 'one call more than without it');
unlike($gw->agent->log, qr/passed over/, 'no upload is blamed');
like($gw->agent->log, qr/does not take how the gateway is/, 'and it is logged');

# ---- one report -------------------------------------------------------------
$calls = report('report', { refuse => 'bad.jpg' }, 'bad.jpg', @many[0 .. 39],
	'bad.jpg', @many[40 .. 63]);
cmp_ok($calls, '<=', 40, 'one that is refused is found by halves');
diag("$calls calls");
is(scalar(() = $gw->agent->log =~ /passed over/g), 1, 'and passed over alone');
is($gw->unbalanced, '', 'the ledger balances');
finish;
