#!/usr/bin/perl
# One download a site: proxy and agent together before a slow origin. Five cold
# clients, a cold range at the end, both daemons killed in the middle.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use Test::More;

Edgehaul->need_all('curl');
my $MIB = 1 << 20;
my $origin = Edgehaul->origin(rate => 6 * $MIB);
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { firmware => { origin => $origin->url, prefetch => 'off' } });
my $fw = Edgehaul::Firmware->new($box);
my $dir = Edgehaul->dir('clients');
my %f;
for (['cold', 20 * $MIB + 123], ['range', 12 * $MIB + 5],
    ['killed', 20 * $MIB]) {
	my ($name, $size) = @$_;
	my $f = $f{$name} = $fw->file("$name.bin",
		Edgehaul::Firmware::octets($size, $name));
	my $version = '1.' . keys(%f) . '.0';
	$fw->release($version, files => [$f]);
	$origin->put("cam-x/stable/$version/$name.bin", $f->{content});
	$origin->put("cam-x/stable/$version/$name.bin.slices", join '',
		map { Digest::SHA::sha256($_) } unpack '(a262144)*', $f->{content});
}
$fw->publish;
$fw->tool('meta', 'products', '["cam-x"]');
$box->proxy->start;
$box->agent->start;

sub up { wait_for(sub {
	$box->get('/firmware/check?p=none')->{status} != 503 }) }
sub url { $box->url("/firmware/b/$f{$_[0]}{sha256}") }
# What the origin has given of a file: (requests, octets).
sub given {
	my ($name) = @_;
	my @r = $origin->requests(qr/$name\.bin$/);
	my $sum = 0;
	$sum += $_->{sent} for @r;
	return (scalar @r, $sum);
}
# curl in the background: a function that tells, once it is over, what it wrote
# and its time to the first octet.
sub client {
	my ($name, $n, @more) = @_;
	my $out = "$dir/$name$n";
	my $pid = fork // die;
	if (!$pid) {
		open STDOUT, '>', "$out.time";
		exec 'curl', '-s', '-o', $out, '-w', '%{time_starttransfer}',
		    @more, url($name);
	}
	return sub {
		waitpid $pid, 0;
		return (-f $out ? slurp($out) : '', slurp("$out.time"));
	};
}
up() or BAIL_OUT('the cache does not open');

# ---- five cold clients, four of them late ----------------------------------
{
	my @c = client('cold', 0);
	ok(wait_for(sub { (-s "$dir/cold0" // 0) > 2 * $MIB }),
		'the first gets what comes');
	push @c, client('cold', $_) for 1 .. 4;
	for my $i (0 .. 4) {
		my ($got, $first) = $c[$i]->();
		is(sha256_hex($got), $f{cold}{sha256}, "client $i");
		cmp_ok($first, '<', 1 * Edgehaul::slowness(),
			'whose first octet came at once') if $i > 0;
	}
	wait_for(sub { (given('cold'))[1] >= $f{cold}{size} });
	my ($requests, $octets) = given('cold');
	cmp_ok($octets, '<=', $f{cold}{size} + 262144,
		'one body from the origin');
	cmp_ok($requests, '<=', 6, "in $requests requests");
}

# ---- a cold range at the end -----------------------------------------------
{
	my ($got) = client('range', 0, '-r', '-65536')->();
	is($got, substr($f{range}{content}, -65536), 'the last 64 KiB');
	wait_for(sub { (given('range'))[1] > 0 });
	cmp_ok((given('range'))[1], '<=', 2 * 262144, 'cost two slices at most');
}

# ---- both killed in the middle ---------------------------------------------
{
	my $c = client('killed', 0);
	ok(wait_for(sub { (-s "$dir/killed0" // 0) > 10 * $MIB }), 'half of it');
	$_->kill9 for $box->agent, $box->proxy;
	$c->();
	my ($filled) = split ' ', $fw->tool('row', $f{killed}{sha256});
	cmp_ok($filled, '>', 9 * $MIB, 'is in the cache');
	my @before = $origin->requests(qr/killed\.bin$/);
	$_->start for $box->proxy, $box->agent;
	up();
	my ($got) = client('killed', 0, '-C', '-')->();
	is(sha256_hex(slurp("$dir/killed0")), $f{killed}{sha256},
		'the client goes on and has it');
	my ($again) = client('killed', 1)->();
	is(sha256_hex($again), $f{killed}{sha256}, 'so has another');
	my $sum = 0;
	wait_for(sub {
		my @all = $origin->requests(qr/killed\.bin$/);
		$sum = 0;
		$sum += $_->{sent} for @all[@before .. $#all];
		$sum >= $f{killed}{size} - $filled;
	}, 5);
	cmp_ok($sum, '<=', $f{killed}{size} - $filled + 262144,
		'only what was missing was fetched again');
	is($box->get('/-/status.json')->{json}{firmware}{cache}{damaged}, 0,
		'nothing was damaged');
}
ok($box->agent->stop, 'the agent stops');
ok($box->proxy->stop, 'the proxy stops');
finish;
