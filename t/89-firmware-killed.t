#!/usr/bin/perl
# Proxy and agent are killed in the middle of a fill that a device waits for: it
# goes on where it was, and only what was missing is fetched again
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
{
	my ($name, $size) = ('killed', 20 * $MIB);
	my $f = $f{$name} = $fw->file("$name.bin",
		Edgehaul::Firmware::octets($size, $name));
	my $version = '1.1.0';
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
# curl in the background: a function that waits and tells what it wrote.
sub client {
	my ($name, $n, @more) = @_;
	my $out = "$dir/$name$n";
	my $pid = fork // die;
	exec 'curl', '-s', '-o', $out, @more, url($name) if !$pid;
	return sub {
		waitpid $pid, 0;
		return -f $out ? slurp($out) : '';
	};
}
up() or BAIL_OUT('the cache does not open');

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
