#!/usr/bin/perl
# A signer or a store that says no: files are kept, the reason is shown
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $jpeg = jpeg();

# ---- a wrong token ---------------------------------------------------------
{
	my $site = Edgehaul->site(token => 'wrong-token-0123456789');
	my $id = $site->put('/upload/cam-1/a.jpg', $jpeg)->{json}{id};
	ok(wait_for(sub { $site->agent->new_log =~ /401/ }),
		'wrong token: the agent says what the signer answered');
	my @rows;
	ok(wait_for(sub {
		@rows = $site->queue_ls;
		@rows == 1 && $rows[0]{last_error};
	}), 'the queue tells the reason');
	is($rows[0]{id}, $id, 'the file is kept');
	like($rows[0]{last_error}, qr/token|401/i, 'and why');
	sleep 2;
	my @lines = grep { /error|warn/ && /401|token/i }
	    split /\n/, $site->agent->new_log;
	ok(@lines >= 1 && @lines <= 4, 'in a line, not in a flood')
	    or diag(join "\n", @lines);
	like($lines[0], qr/token_file|\Q$site->{token_file}\E/,
		'that names what to look at');
	unlike($site->agent->log, qr/wrong-token-0123456789/,
		'and never the token');
	is($site->unbalanced, '', 'the ledger balances');
	ok($site->agent->stop, 'the agent stops cleanly');
}

# ---- a storage with a wrong key --------------------------------------------
SKIP: {
	need(7, 'radosgw');
	my $s3 = Edgehaul->radosgw;
	$s3->bucket('shots');
	my $site = Edgehaul->site(storage => { $s3->storage('shots',
		secretAccessKey => 'not-the-secret') });
	my $id = $site->put('/upload/cam-1/a.jpg', $jpeg,
		type => 'image/jpeg')->{json}{id};
	my $shown = '';
	ok(wait_for(sub {
		(my $rc, $shown) = $site->ctl('queue', 'show', $id);
		$shown =~ /SignatureDoesNotMatch/;
	}), 'queue show ID tells the answer of the store') or diag($shown);
	like($shown, qr/403/, 'with its status');
	unlike($site->agent->log, qr/X-Amz-Signature/, 'no signed query logged');
	my ($row) = $site->queue_ls;
	like($row->{state}, qr/^(waiting|sending)$/, 'the file is kept');
	$site->signer->storage('default', $s3->storage('shots'));
	ok($site->drained(60), 'with the right key it goes out by itself');
	my ($key) = grep { /\Q$id\E/ } $s3->keys('shots');
	ok(defined $key, 'and is in the store');
	is($s3->object('shots', $key // '-')->{body}, $jpeg, 'byte for byte');
}

# ---- no signer at all ------------------------------------------------------
{
	my $box = Edgehaul->gateway(token => 't',
		signer => 'http://127.0.0.1:' . Edgehaul::free_port());
	$box->proxy->start;
	$box->agent->start;
	my $r = $box->put('/upload/cam-1/a.jpg', $jpeg);
	is($r->{status}, 201, 'no signer: the gateway takes uploads');
	ok(wait_for(sub {
		my ($row) = $box->queue_ls;
		$row && $row->{last_error};
	}), 'and tells why they wait');
	ok($box->agent->stop, 'the agent stops cleanly');
	ok($box->proxy->stop, 'the proxy, too');
}
finish;
