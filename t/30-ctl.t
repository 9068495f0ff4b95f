#!/usr/bin/perl
# The operator's program against real daemons: what it prints and how it ends.
use strict;
use warnings;
use Test::More;
use Edgehaul;

my $jpeg = jpeg();
my $box = Edgehaul->gateway(token => 'some-token',
	signer => 'http://127.0.0.1:' . Edgehaul::free_port());

sub ctl { $box->ctl(@_) }

# ---- the command line ------------------------------------------------------
{
	my ($rc, $out, $err) = ctl('--help');
	is($rc, 0, '--help');
	like($out, qr/queue show ID/, 'tells the commands');
	is($err, '', 'and nothing else');
	like((ctl('--version'))[1], qr/^edgehaul \d/, '--version');
	for (['nonsense'], ['queue'], ['queue', 'rm'], ['status', 'x'],
		['queue', 'show'], ['queue', 'show', '../../etc'],
		['why', 'ABC'], ['status', '--live'], ['--nonsense'], []) {
		is((ctl(@$_))[0], 64, "usage: edgehaul @$_");
	}
}

# ---- nothing runs ----------------------------------------------------------
for (['status'], ['status', '--json'], ['queue', 'ls'],
	['queue', 'show', '0' x 32], ['why', '0' x 32]) {
	my ($rc, $out, $err) = ctl(@$_);
	is($rc, 69, "@$_ with no daemon: 69");
	like($err, qr/systemctl start edgehaul-proxy/, 'says what to do');
	is($out, '', 'and prints no result');
}

# ---- check -----------------------------------------------------------------
{
	my ($rc, $out, $err) = ctl('check');
	is($rc, 0, 'check of a good file') or diag("$out$err");
	like($out, qr/^ok$/m, 'says ok');
	($rc, $out) = ctl('check', '--json');
	is_deeply(json_decode($out)->{problems}, [], 'check --json');

	my $good = slurp($box->{config});
	my $lines = () = $good =~ /\n/g;
	spit($box->{config}, $good . "[spool]\nmax_sise = 1 GB\nmax_age = 30\n"
		. "[upload\n");
	($rc, $out) = ctl('check');
	is($rc, 78, 'check of a bad file');
	my @told = split /\n/, $out;
	is(@told, 3, 'three mistakes, three lines') or diag($out);
	like($told[0], qr/gateway\.conf:@{[$lines + 2]}: .*max_size/,
		'file, line and the word that was meant');
	($rc, $out) = ctl('check', '--json');
	is($rc, 78, 'the same with --json');
	is(json_decode($out)->{problems}[2]{line}, $lines + 4, 'by line');
	is((ctl('queue', 'ls'))[0], 78, 'other commands refuse it as well');
	spit($box->{config}, $good);

	chmod 0644, $box->{token_file};
	($rc, $out) = ctl('check');
	is($rc, 78, 'a token that all may read');
	like($out, qr/gateway\.conf:\d+: token_file: .*chmod 600/, 'and the cure');
	spit($box->{token_file}, "\n");
	chmod 0600, $box->{token_file};
	like((ctl('check'))[1], qr/token_file: .* is empty/, 'an empty token');
	unlink $box->{token_file};
	like((ctl('check'))[1], qr/token_file: .* is not there/, 'no token');
	spit($box->{token_file}, "some-token\n");
	chmod 0600, $box->{token_file};

	$box->configure(gateway => { state_dir => '/nonexistent/a/b' });
	($rc, $out) = ctl('check');
	is($rc, 78, 'a folder that cannot be');
	like($out, qr{mkdir -p /nonexistent/a/b}, 'and the cure');
	spit($box->{config}, $good);

	($rc, $out) = ctl('check', '--live', '--json');
	my %seen = map { $_->{what} => $_ } @{ json_decode($out)->{live} };
	is($rc, $seen{disk}{ok} ? 69 : 74, 'check --live without a signer');
	ok(!$seen{signer}{ok}, 'the signer is the reason');
	ok($seen{signer}{hint}, 'with a hint');
	ok($seen{port}{ok}, 'the port is free');
}

# ---- show-config -----------------------------------------------------------
{
	my ($rc, $out) = ctl('show-config');
	is($rc, 0, 'show-config');
	like($out, qr/^\[spool\] max_size = 256 MB   \(.*gateway\.conf:\d+\)$/m,
		'a setting of the file');
	like($out, qr/^\[spool\] when_full = refuse   \(default\)$/m,
		'a default');
	($rc, $out) = ctl('show-config', '--changed');
	unlike($out, qr/default\)/, '--changed');
	($rc, $out) = ctl('show-config', '--defaults');
	like($out, qr/^\[spool\] max_size = 8 GB$/m, '--defaults');
	($rc, $out) = ctl('show-config', '--json');
	my ($row) = grep { $_->{name} eq 'max_size' }
	    map { json_decode($_) } split /\n/, $out;
	is($row->{default}, '8 GB', '--json');
	is((ctl('show-config', '--changed', '--defaults'))[0], 64, 'not both');
}

# ---- a queue ---------------------------------------------------------------
$box->proxy->start;
{
	my ($rc, $out) = ctl('status');
	is($rc, 0, 'status');
	like($out, qr/\AThe agent does not run.*; nothing waits\.\n/,
		'the sentence comes first');
	is((ctl('queue', 'ls'))[1], "Nothing waits.\n", 'an empty queue');
	is((ctl('queue', 'ls', '--json'))[1], '', 'no lines of JSON');
}
my @ids = map { $box->put("/upload/cam-$_/a%20b.jpg", $jpeg)->{json}{id} }
    1 .. 3;
# A name that would clear the screen and turn the text around.
push @ids, $box->put('/upload/cam-4/%C2%9B2J%E2%80%AEgpj.exe', 'x')->{json}{id};
is(scalar(grep { defined } @ids), 4, 'four uploads');
ok(wait_for(sub { $box->queue_ls == 4 }), 'are listed');
{
	my ($rc, $out) = ctl('queue', 'ls');
	is($rc, 0, 'queue ls');
	my ($head, @rows) = split /\n/, $out;
	like($head, qr/^ID +DEVICE +NAME +SIZE/, 'has a head');
	is(@rows, 4, 'and a row each');
	like($rows[0], qr/^$ids[0]  cam-1   a b\.jpg/, 'oldest first');
	unlike($out, qr/[^\x20-\x7e\n]/, 'nothing that controls a terminal');
	like($rows[3], qr/\\xc2\\x9b2J\\xe2\\x80\\xaegpj\.exe/, 'but told');
	my @json = $box->queue_ls;
	is_deeply([map { $_->{id} } @json], \@ids, 'the same as JSON');
	is_deeply([sort keys %{ $json[0] }], [sort qw(id device name size sha256
		state attempts next_try_in last_error)], 'with these members');

	($rc, $out) = ctl('queue', 'show', $ids[1]);
	is($rc, 0, 'queue show');
	like($out, qr/^device +cam-2$/m, 'device');
	like($out, qr/^sha256 +@{[sha256_hex($jpeg)]}$/m, 'sha256');
	($rc, $out) = ctl('queue', 'show', $ids[1], '--json');
	is(json_decode($out)->{size}, length $jpeg, 'queue show --json');
	($rc, $out) = ctl('why', $ids[1]);
	is($rc, 0, 'why');
	like($out, qr/safe on this gateway's disk/, 'in words');
	($rc, $out, my $err) = ctl('queue', 'show', 'f' x 32);
	is($rc, 69, 'an id that is not here');
	like($err, qr/grep id=f{32}/, 'and where to look');

	($rc, $out) = ctl('status');
	like($out, qr/\A[^\n]*; 4 files \(.*\) are safe on disk/, 'status');
	like($out, qr/^ledger 4 accepted = 0 delivered .* \+ 4 waiting$/m,
		'the ledger');
	is($box->ledger->{waiting}, 4, 'as JSON');
}

# ---- more than a page ------------------------------------------------------
{
	my $c = Edgehaul::Raw->new($box->lan);
	$c->put("/upload/many/$_", "$_") for 1 .. 1200;
	ok(wait_for(sub { $box->queue_ls == 1204 }), 'all pages are listed');
	my %id = map { $_->{id} => 1 } $box->queue_ls;
	is(scalar(keys %id), 1204, 'each upload once');
}

# ---- the agent, too --------------------------------------------------------
$box->agent->start;
{
	my ($rc, $out);
	ok(wait_for(sub {
		($rc, $out) = ctl('status');
		$out =~ /\AThe signer cannot be used \(.*1 204 files/;
	}), 'status tells that the signer is away') or diag($out);
	ok(wait_for(sub {
		my ($row) = $box->queue_ls;
		$row && $row->{last_error};
	}), 'queue ls tells the last error');
	($rc, $out) = ctl('why', $ids[0]);
	like($out, qr/first try|tried \d+ time|being sent/, 'why, by the agent');
	ok($box->agent->stop, 'the agent stops');
}
ok($box->proxy->stop, 'the proxy stops');
is((ctl('status'))[0], 69, 'and status says so');

# ---- a whole site ----------------------------------------------------------
{
	my $site = Edgehaul->site;
	# What each look of check --live found, but for the disk: a test's may
	# well be in memory.
	my $look = sub {
		my ($rc, $out) = $site->ctl('check', '--live', '--json');
		return { map { $_->{what} => $_ }
		    grep { $_->{what} ne 'disk' } @{ json_decode($out)->{live} } };
	};
	my $id = $site->put('/upload/cam-1/a.jpg', $jpeg)->{json}{id};
	ok($site->drained, 'a file is delivered');
	my ($rc, $out) = $site->ctl('status');
	like($out, qr/\AAll good; nothing waits\.\n/, 'status: all good');
	is(($site->ctl('why', $id))[0], 69, 'what is delivered is not here');
	my $seen = $look->();
	ok($seen->{$_} && $seen->{$_}{ok}, "check --live: $_")
	    for qw(proxy agent signer token clock store);
	$site->configure(upload => { storage => 'nope' });
	$seen = $look->();
	ok($seen->{storage} && !$seen->{storage}{ok}, 'a storage that is not');
	like($seen->{storage}{text}, qr/nope/, 'is named');
	$site->configure(upload => { storage => undef });
	spit($site->{token_file}, "wrong\n");
	$seen = $look->();
	ok($seen->{token} && !$seen->{token}{ok}, 'a wrong token');
	like($seen->{token}{text}, qr/401/, 'is told as refused');
	unlike(json_encode($seen), qr/"wrong"/, 'and not shown');
	$site->agent->stop;
	$site->proxy->stop;
}
finish;
