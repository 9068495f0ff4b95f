#!/usr/bin/perl
# What was offered once is what goes: retries, restarts, changed settings
use strict;
use warnings;
use Edgehaul;
use File::Copy ();
use File::Path ();
use Test::More;

my $cloud = Edgehaul->cloud;
my $gw = Edgehaul->gateway(signer => $cloud->url, token => $cloud->token,
	conf => { images => { mode => 'lossless' } });
my $csv = join '', map { "2026-01-02T03:04:05Z;$_;" . 3 * $_ . ".5\n" }
    1 .. 5000;
$gw->proxy->start;
$gw->agent->start;

my $sent = 0;
sub put {
	my ($name, $body) = @_;
	my $r = $gw->put("/upload/cam-1/$name", $body, type => 'text/csv');
	die "PUT $name\n" if ($r->{status} // 0) != 201;
	$sent++;
	return $r->{json}{id};
}
# What the signer was asked for this upload, in order.
sub asked {
	my ($id) = @_;
	return grep { $_->{id} eq $id }
	    map { @{ $_->{json}{uploads} } }
	    grep { $_->{json} } $cloud->requests('POST', qr{/v1/sign});
}
sub there {
	my ($id) = @_;
	return grep { $_->{key} =~ /$id/ } values %{ $cloud->objects };
}
sub tried { my ($id, $n) = @_; wait_for(sub { $cloud->requests('PUT', qr/$id/) >= $n }) }

# ---- a retry and a restart send the same octets -----------------------------
$cloud->rules(put => [{ status => 503, code => 'SlowDown' }]);
my $id = put('a.csv', $csv);
ok(tried($id, 2), 'tried more than once');
$gw->agent->kill9;
$gw->agent->start;
my $n = () = $cloud->requests('PUT', qr/$id/);
ok(tried($id, $n + 1), 'and again after a restart');
$cloud->rules;
ok($gw->drained(60, $sent), 'at last it goes');
my @asked = asked($id);
my %same = map { ("$_->{size} $_->{sha256} $_->{contentEncoding} $_->{key}" => 1) }
    @asked;
is(scalar keys %same, 1, 'each time as the same octets under the same key')
    or diag(join "\n", keys %same);
cmp_ok($asked[0]{size}, '<', length $csv, 'the smaller ones');
is($_->{metadata}{'original-sha256'}, sha256_hex($csv),
	'with the metadata') for @asked[0, -1];
my ($o) = there($id);
is(sha256_hex($o->{body}), $asked[0]{sha256}, 'they are in the store');
is(scalar(there($id)), 1, 'once');

# ---- settings changed in between: the store has nothing ----------------------
$cloud->rules(put => [{ status => 503, code => 'SlowDown' }]);
$id = put('b.csv', $csv . 'b');
ok(tried($id, 1), 'offered as a smaller copy');
$gw->agent->stop;
$gw->configure(images => { mode => 'off' });
$cloud->rules;
$gw->agent->start;
ok($gw->drained(60, $sent), 'delivered');
($o) = there($id);
is($o->{body}, $csv . 'b', 'the original goes instead');
@asked = asked($id);
is($asked[-1]{key}, $asked[0]{key}, 'under the same key');
is((grep { $_->{method} eq 'HEAD' } @asked), 1,
	'after the store was asked for the copy');
ok(!defined $asked[-1]{contentEncoding} && !defined $asked[-1]{metadata},
	'and no longer as what it is not');

# ---- the store has it, only nobody knew --------------------------------------
$gw->agent->stop;
$gw->configure(images => { mode => 'lossless' });
$cloud->rules(put => [{ delay => 3 }]);
$gw->agent->start;
$id = put('c.csv', $csv . 'c');
ok(wait_for(sub { asked($id) > 0 }), 'signed');
ok(wait_for(sub { there($id) }, 30), 'in the store');
# whether the agent had the answer already or not: it may not be sent twice
$gw->agent->kill9;
$gw->configure(images => { mode => 'off' });
$cloud->rules;
$gw->agent->start;
ok($gw->drained(60, $sent), 'delivered');
($o) = there($id);
cmp_ok(length $o->{body}, '<', length($csv), 'the copy stays');
is((() = $cloud->requests('PUT', qr/$id/)), 1, 'nothing was sent again');

# ---- in parts, over a restart ------------------------------------------------
$gw->agent->stop;
$gw->configure(images => { mode => 'lossless' });
my $big = join '', map { sprintf "%08d;%d\n", $_, ($_ * 7919) % 104729 }
    1 .. 60000;
$cloud->rules(part_size => 50000, put => [{ delay => 0.5 }]);
$gw->agent->start;
$id = put('big.csv', $big);
ok(tried($id, 2), 'some parts are there');
$gw->agent->kill9;
$cloud->rules(part_size => 50000);
$gw->agent->start;
ok($gw->drained(60, $sent), 'delivered in parts');
($o) = there($id);
@asked = asked($id);
is(sha256_hex($o->{body}), $asked[0]{sha256}, 'of one copy');

# ---- a lost index: what did the store get? -----------------------------------
for my $mode (qw(lossless off)) {
	$gw->agent->stop;
	$gw->configure(images => { mode => $mode });
	$cloud->rules;
	$id = put("found-$mode.csv", $csv . $mode);
	my ($file) = glob $gw->spool . '/item/*/*' . substr $id, 16;
	my $copy = slurp($file);
	$gw->agent->start;
	ok($gw->drained(30, $sent), "delivered with images $mode");
	my ($before) = there($id);
	$gw->agent->stop;
	$gw->proxy->stop;
	mkdir $file =~ s{/[^/]*\z}{}r;
	spit($file, $copy);
	chmod 0660, $file;
	File::Path::remove_tree($gw->spool . '/index');
	$gw->configure(images => { mode => 'lossless' });
	$gw->proxy->start;
	$gw->agent->start;
	ok(wait_for(sub {
		my $l = $gw->ledger;
		$l->{accepted} == 1 && $l->{delivered} == 1;
	}, 30), 'found again, it is known to be there')
	    or diag(json_encode($gw->ledger), $gw->agent->new_log);
	$sent = 1;
	is((() = $cloud->requests('PUT', qr/$id/)), 1, 'and not sent again');
	my ($after) = there($id);
	is($after->{body}, $before->{body}, 'the store has what it had');
	$sent = 1;
}

# ---- without a worker program ------------------------------------------------
$gw->agent->stop;
my $folder = Edgehaul->dir('programs');
File::Copy::copy(Edgehaul::top_builddir() . '/agent/edgehaul-agent',
	"$folder/edgehaul-agent") or die "copy: $!\n";
chmod 0755, "$folder/edgehaul-agent";
SKIP: {
	skip('edgehaul-image is installed', 5)
	    if -x '/usr/local/libexec/edgehaul/edgehaul-image';
	$gw->agent->{program} = "$folder/edgehaul-agent";
	$gw->agent->start;
	$cloud->rules;
	$id = put('d.csv', $csv . 'd');
	ok($gw->drained(30, $sent), 'delivered without workers');
	($o) = there($id);
	is($o->{body}, $csv . 'd', 'as it was');
	put("d-$_.csv", "$_$csv") for 1 .. 5;
	my $t = Time::HiRes::time();
	ok($gw->drained(30, $sent), 'and more');
	cmp_ok(Time::HiRes::time() - $t, '<', 5 * Edgehaul::slowness(),
		'without waiting for any');
	my $n = () = $gw->agent->new_log
	    =~ /warn .*image worker .*images go as they are/g;
	is($n, 1, 'the log tells it once') or diag($gw->agent->new_log);
}
is($gw->unbalanced, '', 'the ledger balances');
finish;
