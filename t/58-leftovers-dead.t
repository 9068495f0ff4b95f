#!/usr/bin/perl
# A storage that takes requests and never answers does not hold up what has to be
# given up at another one
use strict;
use warnings;
use Edgehaul;
use Test::More;

# Uploads get as far as their first part, which hangs.
my %rules = (part_size => 1000, put => [{ key => 'big', delay => 300 }]);
my $cloud = Edgehaul->cloud(rules => { %rules });
my $gw = Edgehaul->gateway(signer => $cloud->url, token => $cloud->token, conf => {
	'camera quiet' => { storage => 'dead' }, 'camera loud' => { storage => 'live' } });
$gw->proxy->start;
$gw->agent->start;

sub deleted { my ($storage) = @_;
	return scalar $cloud->requests('DELETE', qr{^/store/$storage/}) }
sub begun { my ($storage) = @_;
	return scalar $cloud->requests('POST', qr{^/store/$storage/}) }
sub held { return scalar grep { $_->{state} eq 'held' } $gw->queue_ls }

for my $i (1 .. 4) {
	$gw->put("/upload/quiet/big-$i.bin", "q$i" x 1000);
}
ok(wait_for(sub { begun('dead') == 4 }), 'parts are begun at one');
$gw->put('/upload/loud/big.bin', 'l' x 2000);
ok(wait_for(sub { begun('live') == 1 }), 'and at another');

# What is blocked is given up: first at the one that is dead by now.
my $dead = [{ storage => 'dead', delay => 300 }];
$cloud->rules(%rules, delete => $dead, version => 2, blocked => ['quiet']);
ok(wait_for(sub { held() == 4 }), 'a device is blocked: its uploads are held');
$cloud->rules(%rules, delete => $dead, version => 3, blocked => ['quiet', 'loud']);
ok(wait_for(sub { held() == 5 }), 'and another');
ok(wait_for(sub { deleted('live') == 1 }, 15), 'its parts are given up meanwhile');
is(deleted('dead'), 0, 'though those before were not');
is($gw->unbalanced, '', 'the ledger balances');

# It comes back; a call that hangs ends after 30 s, after a kill at once.
$gw->agent->kill9;
$cloud->rules(%rules, version => 3, blocked => ['quiet', 'loud']);
$gw->agent->start;
ok(wait_for(sub { deleted('dead') == 4 }, 20), 'it comes back: all are given up');
finish;
