#!/usr/bin/perl
# The agent's loop waits for no disk for firmware: the cache is opened, keys are
# read and the disk is looked at by another thread, at a reload as during a fill
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use Edgehaul::Strace;
use Test::More;

Edgehaul->need_all('curl');
my $why = Edgehaul::Strace->lacks;
plan(skip_all => $why) if $why && $why =~ /^kernel/;
Edgehaul->need_all('strace');

my $origin = Edgehaul->origin;
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { firmware => { prefetch => 'off' } });
my $fw = Edgehaul::Firmware->new($box);
my $dir = Edgehaul->dir('keys');
my $f = $fw->file('a.bin', Edgehaul::Firmware::octets(3 << 20, 'a'));
$fw->release('1.1.0', files => [$f]);
$origin->put('cam-x/stable/1.1.0/a.bin', $f->{content});
$origin->put('cam-x/stable/1.1.0/a.bin.slices', join '',
	map { Digest::SHA::sha256($_) } unpack '(a262144)*', $f->{content});
$fw->publish;
$fw->tool('meta', 'products', '["cam-x"]');
spit("$dir/$_.pub", "untrusted comment: a key\n$fw->{key}\n") for qw(one two);
sub asked { scalar $origin->requests(qr/manifest/) }

$box->configure(firmware => { publisher_key => undef });
$box->agent->start;
my $strace = Edgehaul::Strace->attach($box->agent->pid,
	'open,openat,statfs,fstatfs,mkdir,flock', 'delay_enter=1', undef,
	tid => $box->agent->pid, paths => 1);

# ---- set up while it runs ---------------------------------------------------
$box->configure(firmware => { publisher_key => "$dir/one.pub",
	origin => $origin->url });
$box->proxy->start;
$box->agent->hup;
ok(wait_for(\&asked), 'firmware is set up by a reload');
my $got = "$dir/got";
ok(wait_for(sub { (Edgehaul->run('curl', '-sf', '-o', $got,
	$box->url("/firmware/b/$f->{sha256}")))[0] == 0 }), 'a device asks');
ok(slurp($got) eq $f->{content}, 'and has it');

# ---- other keys, by a reload ------------------------------------------------
$origin->forget;
$box->configure(firmware => { publisher_key => "$dir/one.pub $dir/two.pub" });
$box->agent->hup;
ok(wait_for(\&asked), 'settings are taken');
$strace->detach;
my @calls = grep { m{/cache|/state"|\.pub} } split /\n/, $strace->log;
is("@calls", '', 'none of it by the loop');
like($strace->log, qr/gateway\.conf/, 'which was watched');

# ---- many products ----------------------------------------------------------
# A few are asked for at a time (t/unit/feeds.t), each as one before it ends.
$box->agent->kill9;
$fw->tool('meta', 'products', json_encode([map { "p-$_" } 1 .. 200]));
$origin->forget;
$box->agent->start;
ok(wait_for(sub { my %p = map { $_->{path} => 1 } $origin->requests(qr/manifest/);
	return keys %p == 200 }), 'all of many products are asked for');
finish;
