#!/usr/bin/perl
# A device blocked in the cloud: refused on the LAN, held in the spool, its
# running transfer stopped, also without WAN after a restart; and let go again
use strict;
use warnings;
use Edgehaul;
use Test::More;
use Time::HiRes ();

my $site = Edgehaul->site;
my $signer = $site->signer;
my $device = '/v1/gateways/gw-1/devices/';
sub status_of { my $r = $site->put(@_); return $r ? $r->{status} : 0 }
sub row { my ($id) = @_; return (grep { $_->{id} eq $id } $site->queue_ls)[0] }
sub state_of { my $r = row(@_); return $r ? $r->{state} : 'gone' }
sub rate {
	my ($rate) = @_;
	$site->configure(upload => { rate_limit => $rate });
	ok($site->agent->reload, ($rate // 'no') . ' rate');
}
sub block {
	my ($name, $yes) = @_;
	my $r = $signer->rest('PUT', $device . $name,
		json => { blocked => $yes ? JSON::PP::true() : JSON::PP::false() });
	ok($r->{success}, ($yes ? '' : 'un') . "block $name")
	    or diag $r->{content};
}

is(status_of('/upload/cam-1/before.jpg', jpeg()), 201, 'before: taken');
ok($site->drained(20, 1), 'and delivered');

# ---- a long transfer is stopped ---------------------------------------------
rate('50 KB'); # a minute
my $r = $site->put('/upload/cam-1/long.bin', 'x' x 3_000_000);
is($r->{status}, 201, 'a long one is taken');
my $id = $r->{json}{id};
ok(wait_for(sub { state_of($id) eq 'sending' }), 'and being sent');
block('cam-1', 1);
ok(wait_for(sub { state_of($id) eq 'held' }), 'its transfer is stopped, held')
    or diag state_of($id);

# ---- refused at the door ----------------------------------------------------
ok(wait_for(sub { status_of('/upload/cam-1/no.jpg', jpeg()) == 403 }),
	'refused by name');
is(status_of('/upload/other/no.jpg', jpeg()), 403,
	'refused by the address last seen under the name');
is(status_of('/upload/cam-2/yes.jpg', jpeg(), from => '127.0.0.2'), 201,
	'another device at another address is served');

# ---- the same without WAN, after a restart ----------------------------------
$signer->stop;
$_->kill9, $_->start for $site->agent, $site->proxy;
is(status_of('/upload/cam-1/no.jpg', jpeg(), from => '127.0.0.3'), 403,
	'still refused by name');
is(status_of('/upload/other/no.jpg', jpeg()), 403, 'and by address');
is(state_of($id), 'held', 'still held');

# ---- unblocked --------------------------------------------------------------
$signer->start;
rate(undef);
block('cam-1', 0);
ok(wait_for(sub { status_of('/upload/cam-1/again.jpg', jpeg()) == 201 }),
	'taken again');
ok($site->drained(60, 4), 'all that was held is delivered');

# ---- several: each for itself, from whatever address ---------------------------
is(status_of("/upload/bad-$_/a.jpg", jpeg(), from => "127.0.0.1$_"), 201,
	"bad-$_ at its address") for 1, 2;
block("bad-$_", 1) for 1, 2;
for (1, 2) {
	ok(wait_for(sub { status_of("/upload/bad-$_/a.jpg", jpeg(),
		from => "127.0.0.1$_") == 403 }), "bad-$_ is blocked");
	is(status_of("/upload/other/$_.jpg", jpeg(), from => "127.0.0.1$_"), 403,
		'and its address');
}
is(status_of('/upload/bad-2/a.jpg', jpeg(), from => '127.0.0.13'), 403,
	'bad-2 at another address');
is(status_of('/upload/other/3.jpg', jpeg(), from => '127.0.0.13'), 403,
	'which is blocked from then on');
block('bad-1', 0);
ok(wait_for(sub { status_of('/upload/bad-1/b.jpg', jpeg(),
	from => '127.0.0.11') == 201 }), 'bad-1 is let go, with its address');
is(status_of('/upload/other/2.jpg', jpeg(), from => '127.0.0.12'), 403,
	'bad-2 is not');
ok(wait_for(sub { slurp($site->spool . '/../blocked-addresses.json')
	=~ /127\.0\.0\.13/ }), 'the addresses are kept');
$site->proxy->kill9;
$site->proxy->start;
is(status_of("/upload/other/$_.jpg", jpeg(), from => "127.0.0.1$_"), 403,
	"after a restart, too, $_") for 2, 3;
is(status_of('/upload/bad-1/c.jpg', jpeg(), from => '127.0.0.11'), 201,
	'and bad-1 is served');
my $long = '%c3%a9' x 60; # over 80 octets: cut, but no letter in two
is(status_of("/upload/$long/a.jpg", jpeg(), from => '127.0.0.14'), 201,
	'a long name');
block($long, 1);
ok(wait_for(sub { status_of("/upload/$long/b.jpg", jpeg(),
	from => '127.0.0.14') == 403 }), 'is blocked');
is(status_of('/upload/other/5.jpg', jpeg(), from => '127.0.0.14'), 403,
	'with its address');
$site->proxy->stop;
$site->proxy->start;
is(status_of("/upload/other/$_.jpg", jpeg(), from => "127.0.0.1$_"), 403,
	"after another restart, $_") for 2, 4;
block($_, 0) for 'bad-2', $long;
ok(wait_for(sub { status_of('/upload/other/4.jpg', jpeg(),
	from => '127.0.0.13') == 201 }), 'bad-2 is let go');

# ---- how long that takes: the best of three, on a machine that may be busy ---
my $took;
for (1 .. 3) {
	my $began = Time::HiRes::time();
	block('cam-3', 1);
	ok(wait_for(sub { status_of('/upload/cam-3/x.jpg', jpeg(),
		from => '127.0.0.4') == 403 }), 'a block is at the door');
	$took = Time::HiRes::time() - $began;
	block('cam-3', 0);
	last if $took < 1 * Edgehaul::slowness();
	wait_for(sub { status_of('/upload/cam-3/x.jpg', jpeg(),
		from => '127.0.0.4') < 300 });
}
cmp_ok($took, '<', 1 * Edgehaul::slowness(), 'within a second of the call');
ok(wait_for(sub { $site->ledger->{waiting} == 0 }, 60), 'nothing waits');
is($site->unbalanced, '', 'the ledger balances');
finish;
