#!/usr/bin/perl
# What became of uploads reaches the signer: at least once, each counted once,
# also over restarts of the agent and without the signer; how the gateway is
# comes along, and uploads go on whatever the reports do
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $site = Edgehaul->site(conf => { spool =>
	{ on_same_name => 'replace-waiting' } });
my $signer = $site->signer;
sub gateway { $signer->rest('GET', '/v1/gateways/gw-1')->{json} }
sub in_list {
	return (grep { $_->{id} eq 'gw-1' }
	    @{ $signer->rest('GET', '/v1/gateways')->{json}{items} })[0];
}
# All that the audit log says was reported: { id => [outcome, ...] }.
sub told {
	my (%t, $r);
	my $after = '';
	do {
		$r = $signer->rest('GET', "/v1/audit?after=$after")->{json};
		for my $row (@{ $r->{items} }) {
			next if $row->{action} ne 'uploads.report';
			push @{ $t{$_->{id}} }, $_
			    for @{ $row->{after}{uploads} };
		}
		$after = $r->{next};
	} while (defined $after);
	return \%t;
}
sub wait_told {
	my ($id) = @_;
	return wait_for(sub { (told()->{$id} // [])->[0] });
}

# ---- delivered --------------------------------------------------------------
ok(wait_for(sub { (gateway()->{status} // {})->{ledger} }),
	'the status comes by itself');
my $r = $site->put('/upload/cam-1/a.jpg', jpeg());
is($r->{status}, 201, 'an upload');
my $row = wait_told($r->{json}{id});
ok($row, 'its end is told');
is($row->{outcome}, 'delivered', 'as delivered');
is($row->{device}, 'cam-1', 'with its device');
is($row->{size}, length jpeg(), 'and size');
like($row->{key}, qr{cam-1/.*\Q$r->{json}{id}\E}, 'and key');
my $seen = in_list();
like($seen->{lastContact}, qr/^\d{4}-.*Z$/, 'the list has its last contact');
# Which may change between two looks.
ok(wait_for(sub { json_encode(in_list()->{status}) eq json_encode(gateway()->{status}) }),
	'and its status');
is($seen->{status}{version}, gateway()->{status}{version}, 'with its version');

# ---- without the signer, and over a kill ------------------------------------
$signer->stop;
my @ids;
# One that the agent has in hand is not replaced.
ok(wait_for(sub {
	push @ids, $site->put('/upload/cam-1/same.jpg', jpeg() . @ids)->{json}{id};
	return $site->ledger->{evicted} >= 3;
}), 'some are replaced while the signer is away');
$site->agent->kill9;
$site->agent->start;
$signer->start;
is(scalar(grep { !wait_told($_) } @ids), 0,
	'all ends are told, after a kill of the agent');
my @evicted = grep { $_->{outcome} eq 'evicted' } map { @$_ } values %{ told() };
is(scalar @evicted, $site->ledger->{evicted}, 'of as many as the ledger has');
is(scalar(grep { $_->{reason} =~ /replaced/ } @evicted), scalar @evicted,
	'with the reason');

# ---- told twice, counted once -----------------------------------------------
my $one = $site->put('/upload/cam-1/b.jpg', jpeg() . 'b')->{json}{id};
ok(wait_told($one), 'another one');
my $twice = $signer->rest('POST', '/v1/reports', token => slurp($site->{token_file}) =~ s/\s//gr,
	json => { reports => [{ id => $one, outcome => 'delivered',
		size => 1_000_000 }] });
is_deeply($twice->{json}, { accepted => 0, repeated => 1 }, 'told again by hand');
is(scalar @{ told()->{$one} }, 1, 'is not in the audit log again');

# ---- quotas -----------------------------------------------------------------
my $sum = 0;
$sum += $_->[0]{size} for grep { $_->[0]{outcome} eq 'delivered' } values %{ told() };
$signer->rest('PUT', '/v1/gateways/gw-1', json => { policy => { bytesPerDay => $sum } });
my $over = $site->put('/upload/cam-1/c.jpg', jpeg() . 'c')->{json}{id};
ok(wait_for(sub { my ($q) = grep { $_->{id} eq $over } $site->queue_ls;
	$q && $q->{last_error} =~ /sent what it may send in a day/ }),
	'bytesPerDay is fed by the reports');
$signer->rest('PUT', '/v1/gateways/gw-1', json => { policy => {} });

# ---- beside a large body ----------------------------------------------------
$site->configure(upload => { rate_limit => '40 KB' });
$site->agent->reload;
my $large = $site->put('/upload/cam-2/large.bin', 'x' x 4_000_000)->{json}{id};
sub sending {
	my ($q) = grep { $_->{id} eq $large } $site->queue_ls;
	return $q && $q->{state} eq 'sending';
}
ok(wait_for(\&sending), 'a large one fills the uplink');
my $small = $site->put('/upload/cam-1/d.jpg', 'small')->{json}{id};
ok(wait_told($small), 'what is delivered beside it is told');
ok(sending(), 'while it still goes');

# ---- a report that the signer will not have ---------------------------------
like($site->agent->log, qr/deferred/, 'the agent says why it waits');
unlike($site->agent->log, qr/report of an upload/, 'no report was refused');
is($site->unbalanced, '', 'the ledger balances');
finish;
