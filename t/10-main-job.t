#!/usr/bin/perl
# The main job: a camera's plain PUT ends as an object in the store
#
# Real clients (curl, wget) and the octets that simple firmware sends; the FILE
# storage, so nothing but Edgehaul itself takes part.
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $site = Edgehaul->site;
my $jpeg = jpeg();
my $sha = sha256_hex($jpeg);
my $file = spit(Edgehaul->dir('data') . '/shot.jpg', $jpeg);
my @ids;

# The file of an upload in the store: its path and content.
sub stored {
	my ($id) = @_;
	my $files = $site->files;
	my @hits = grep { /\Q$id\E/ && slurp($files->{$_}) eq $jpeg }
	    sort keys %$files;
	return @hits == 1 ? $hits[0] : undef;
}

sub arrives {
	my ($id, $what) = @_;
	push @ids, $id;
	my $path = wait_for(sub { stored($id) });
	ok($path, "$what: in the store once, byte for byte")
	    or diag(join "\n", sort keys %{ $site->files });
	return $path // '';
}

# ---- curl -T: and what the answer says ------------------------------------
SKIP: {
	need(8, 'curl');
	my ($rc, $out, $err) = Edgehaul->run('curl', '-sS', '-i', '-H',
		'Content-Type: image/jpeg', '-T', $file,
		$site->url('/upload/cam-1/shot.jpg'));
	is($rc, 0, 'curl -T') or diag($err);
	like($out, qr{^HTTP/1\.1 201 }m, 'answered 201');
	like($out, qr{^etag: "$sha"\r$}mi, 'the ETag is the SHA-256');
	my ($body) = $out =~ /\r\n\r\n(\{[^\r\n]*\}\r?\n?)\z/;
	ok($body, 'the body is one short JSON line') or diag($out);
	my $json = eval { json_decode($body) } // {};
	like($json->{id}, qr/^[0-9a-f]{32}$/, 'id');
	is($json->{sha256}, $sha, 'sha256');
	is($json->{size}, length $jpeg, 'size');
	my $path = arrives($json->{id}, 'curl -T');
	like($path, qr{cam-1/\d{4}-\d\d-\d\d/\d{6}-$json->{id}-shot\.jpg},
		'the key follows the template');
}

# ---- wget ------------------------------------------------------------------
SKIP: {
	need(2, 'wget');
	my ($rc, $out, $err) = Edgehaul->run('wget', '-q', '-O', '-',
		'--method=PUT', "--body-file=$file",
		'--header=Content-Type: image/jpeg',
		$site->url('/upload/cam-2/shot.jpg'));
	is($rc, 0, 'wget --method=PUT') or diag($err);
	arrives((eval { json_decode($out) } // {})->{id} // '?', 'wget');
}

# ---- what busybox and small firmware send ----------------------------------
{
	my $r = Edgehaul::request_bytes($site->lan, join "\r\n",
		'PUT /upload/cam-3/shot.jpg HTTP/1.0',
		'Content-Length: ' . length $jpeg, 'Content-Type: image/jpeg',
		'', $jpeg);
	is($r->{answers}[0]{status}, 201, 'HTTP/1.0, no Host');
	ok($r->{closed}, 'HTTP/1.0: the server closes');
	like($r->{answers}[0]{headers}{'content-length'}, qr/^\d+$/,
		'HTTP/1.0: the answer has a length');
	arrives($r->{answers}[0]{json}{id}, 'HTTP/1.0');
}

SKIP: { # the real busybox can post, but ends a file at its first NUL
	need(3, 'busybox');
	my $text = "a line of a log\n" x 5000;
	my $log = spit(Edgehaul->dir('data') . '/camera.log', $text);
	my ($rc, $out, $err) = Edgehaul->run('busybox', 'wget', '-q',
		'-O', '-', "--post-file=$log",
		$site->url('/upload/cam-4/camera.log'));
	is($rc, 0, 'busybox wget --post-file') or diag($err);
	my $id = (eval { json_decode($out) } // {})->{id} // '?';
	push @ids, $id;
	my $path = wait_for(sub { (grep { /$id/ } keys %{ $site->files })[0] });
	ok($path, 'busybox: in the store');
	is(slurp($site->files->{$path // '?'}), $text, 'byte for byte') if $path;
}

# ---- chunked ---------------------------------------------------------------
{
	my $chunks = '';
	for (my $off = 0; $off < length $jpeg; $off += 7000) {
		my $part = substr $jpeg, $off, 7000;
		$chunks .= sprintf("%x\r\n", length $part) . "$part\r\n";
	}
	my $r = Edgehaul::request_bytes($site->lan, join "\r\n",
		'PUT /upload/cam-5/shot.jpg HTTP/1.1', 'Host: gw',
		'Transfer-Encoding: chunked', 'Content-Type: image/jpeg', '',
		"${chunks}0\r\n\r\n", );
	is($r->{answers}[0]{status}, 201, 'chunked');
	is($r->{answers}[0]{json}{sha256}, $sha, 'chunked: the same octets');
	arrives($r->{answers}[0]{json}{id}, 'chunked');
}

# ---- Expect, POST, a raw blank, many on one connection ---------------------
{
	my $c = Edgehaul::Raw->new($site->lan);
	$c->send(join "\r\n", 'PUT /upload/cam-6/wait.jpg HTTP/1.1', 'Host: gw',
		'Content-Length: ' . length $jpeg, 'Expect: 100-continue', '',
		'');
	my $r = $c->response(interim => 1);
	is($r->{status}, 100, 'Expect: 100 comes before the body');
	$c->send($jpeg);
	$r = $c->response;
	is($r->{status}, 201, 'then 201');
	arrives($r->{json}{id}, 'Expect');
	$r = $c->put('/upload/cam-6/my picture.jpg', $jpeg);
	is($r->{status}, 201, 'a raw blank in the path, same connection');
	arrives($r->{json}{id}, 'raw blank');
	$r = $c->put('/upload/cam-6/post.jpg', $jpeg, method => 'POST');
	is($r->{status}, 201, 'POST, same connection');
	arrives($r->{json}{id}, 'POST');
	$r = $c->put('/some/where/else.jpg', $jpeg);
	is($r->{status}, 201, 'any other path is an upload, too');
	my $path = arrives($r->{json}{id}, 'any path');
	like($path, qr{127\.0\.0\.1}, 'and the address names the device');
	$r = $c->put('/upload/cam-6/empty.jpg', '');
	is($r->{status}, 201, 'an empty body is kept');
	is($r->{json}{size}, 0, 'and counted as empty');
	push @ids, $r->{json}{id};
}

# ---- what the gateway tells about it ---------------------------------------
ok($site->drained(20, scalar @ids), 'nothing waits any more');
is($site->unbalanced, '', 'the ledger balances');
my $ledger = $site->ledger;
is($ledger->{accepted}, @ids, 'accepted counts each upload once');
is($ledger->{delivered}, @ids, 'delivered as well');

my $r = $site->get('/-/health');
is($r->{status}, 200, '/-/health');
$r = $site->get('/-/status.json');
is($r->{status}, 200, '/-/status.json');
is_deeply([sort keys %{ $r->{json}{ledger} // {} }],
	[sort keys %$ledger], 'the same ledger there');

# while the signer is away an upload waits, and can be asked about
ok($site->signer->stop, 'the signer stops cleanly');
my $put = $site->put('/upload/cam-7/later.jpg', $jpeg, type => 'image/jpeg');
is($put->{status}, 201, 'signer stopped: still 201');
my $id = $put->{json}{id};
my ($row) = wait_for(sub { grep { $_->{id} eq $id } $site->queue_ls });
($row) = grep { $_->{id} eq $id } $site->queue_ls;
is($row->{device}, 'cam-7', 'queue ls: device');
is($row->{name}, 'later.jpg', 'queue ls: name');
is($row->{size}, length $jpeg, 'queue ls: size');
is($row->{sha256}, $sha, 'queue ls: sha256');
like($row->{state}, qr/^(waiting|sending)$/, 'queue ls: state');
ok(exists $row->{$_}, "queue ls: $_") for qw(attempts next_try_in last_error);
$r = $site->get("/-/uploads/$id");
is($r->{status}, 200, '/-/uploads/ID of what waits');
is($r->{json}{id}, $id, 'and it says which');
is($site->ledger->{waiting}, 1, 'the ledger: one waits');
is($site->unbalanced, '', 'and balances');
my ($rc, $out) = $site->ctl('queue', 'show', $id);
is($rc, 0, 'queue show ID');
like($out, qr/cam-7/, 'for a person to read');
$site->signer->start;
arrives($id, 'after the signer is back');
ok($site->drained, 'nothing waits any more');
is(scalar(grep { /\.spool|incoming/ } glob $site->spool . '/incoming/*'), 0,
	'incoming/ is empty');
$r = $site->get('/-/uploads/' . '0' x 32);
is($r->{status}, 404, '/-/uploads/ID of what never was');
ok($site->agent->stop, 'the agent stops cleanly');
ok($site->proxy->stop, 'the proxy stops cleanly');
finish;
