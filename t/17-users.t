#!/usr/bin/perl
# Two users, one group: the proxy's user cannot read the token
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use File::Copy ();
use Test::More;

plan(skip_all => 'kernel: only root can run daemons under two users')
    if $> != 0;
Edgehaul->need_all('setpriv', 'minisign');

my ($group, $proxy, $agent) = (64180, 64181, 64182);
my $dir = Edgehaul->dir('gateway');
my $bin = Edgehaul->dir('bin');
my $build = Edgehaul::top_builddir();
for my $who (qw(proxy agent)) { # the build tree may be closed to others
	File::Copy::copy("$build/$who/edgehaul-$who", "$bin/edgehaul-$who")
	    or die "copy: $!";
	chmod 0755, "$bin/edgehaul-$who";
}
my $site = Edgehaul->site(start => 0, dir => $dir, programs => $bin,
	users => { proxy => { uid => $proxy, gid => $group },
		agent => { uid => $agent, gid => $group } });
chmod 0755, $dir;
for my $d ("$dir/state", "$dir/run") {
	chown $proxy, $group, $d;
	chmod 02770, $d;
}
chown $agent, $group, $site->{token_file};
chmod 0400, $site->{token_file};

my $cdn = Edgehaul->origin;
my $fw = Edgehaul::Publisher->new($site->signer);
my $image = $fw->image('fw', 700_000);
my $m = $fw->manifest('cam-x', 'stable', 1, [$fw->release('1.0.0', 1, $image)]);
$cdn->put('cam-x/stable/1.0.0/fw.bin', $image->{bytes})
    ->put('cam-x/stable/1.0.0/fw.bin.slices', $image->{list})
    ->put('cam-x/stable/manifest.json.minisig', $m->{signature})
    ->put('cam-x/stable/manifest.json', $m->{manifest});
$site->signer->rest('PUT', '/v1/firmware/cam-x',
    json => { publicKeys => [$fw->public] });
$site->configure(firmware => { origin => $cdn->url,
	publisher_key => $fw->public });

$site->proxy->start;
$site->agent->start;
my ($uid) = slurp('/proc/' . $site->proxy->pid . '/status')
    =~ /^Uid:\s+(\d+)/m;
is($uid, $proxy, 'the proxy runs under its user');
($uid) = slurp('/proc/' . $site->agent->pid . '/status') =~ /^Uid:\s+(\d+)/m;
is($uid, $agent, 'the agent under its own');

my ($rc) = Edgehaul->run('setpriv', "--reuid=$proxy",
	"--regid=$group", '--clear-groups', 'cat', $site->{token_file});
isnt($rc, 0, "the proxy's user cannot read the token");
($rc) = Edgehaul->run('setpriv', "--reuid=$agent",
	"--regid=$group", '--clear-groups', 'cat', $site->{token_file});
is($rc, 0, "the agent's user can");

my $jpeg = jpeg();
for my $n (1 .. 20) {
	my $r = $site->put("/upload/cam-1/$n.jpg", $jpeg);
	is($r->{status}, 201, "upload $n") if $n == 1 || $r->{status} != 201;
}
ok($site->drained(30, 20), 'all are delivered');
is($site->unbalanced, '', 'the ledger balances');

# The agent fills what the proxy serves; either may have made the folders.
my $blob = "/firmware/b/$image->{file}{sha256}";
ok(wait_for(sub { $site->get($blob)->{status} == 200 }), 'firmware is served');
ok($site->get($blob)->{content} eq $image->{bytes}, 'all of it');
unlike($_->log, qr/Permission denied/, 'nothing was denied to ' . $_->name)
    for $site->proxy, $site->agent;

# each dies and comes back
$site->signer->stop;
my $id = $site->put('/upload/cam-1/later.jpg', $jpeg)->{json}{id};
$site->proxy->kill9->start;
$site->agent->kill9->start;
is(scalar(grep { $_->{id} eq $id } $site->queue_ls), 1,
	'it waits after both were killed');
$site->signer->start;
ok($site->drained(30), 'and is delivered');

my ($odd) = grep { (stat $_)[2] & 07 } glob $site->spool . '/item/*/*';
is($odd, undef, 'no file of the spool is open to others');
is((stat $site->spool)[2] & 07, 0, 'nor is the spool');
($odd) = grep { (stat $_)[2] & 07 } glob "$dir/state/cache/* $dir/state/cache/*/*";
is($odd, undef, 'nor anything of the cache');
system 'rm', '-r', "$dir/state/cache";
$site->$_->kill9 for 'proxy', 'agent';
$site->agent->start;
$site->proxy->start;
ok(wait_for(sub { $site->get($blob)->{status} == 200 }),
    'and when the agent makes the folders');
finish;
