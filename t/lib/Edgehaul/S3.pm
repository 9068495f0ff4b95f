# S3.pm - what is the same for all real S3 servers: SigV4 headers, buckets
#
# The signature is made here with Perl's own Digest::SHA, so nothing of the
# code under test takes part in looking at what it did. A server has port,
# access and secret.
package Edgehaul::S3;
use strict;
use warnings;
use Digest::SHA qw(sha256_hex hmac_sha256 hmac_sha256_hex);
use Edgehaul ();
use Edgehaul::Raw;
use JSON::PP ();
use POSIX ();

# The script t/lib/backends/NAME has been started in the folder dir.
sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || $self->{gone}++;
	system('bash', $self->script, 'stop', $self->{dir});
}

sub script { Edgehaul::top_srcdir() . '/t/lib/backends/' . $_[0]->name }

sub DESTROY { local ($?, $!, $@); $_[0]->stop_quietly }

sub endpoint { "http://127.0.0.1:$_[0]{port}" }

sub _encode {
	my ($s, $keep) = @_;
	$s =~ s{([^A-Za-z0-9_.~$keep-])}{sprintf '%%%02X', ord $1}ge;
	return $s;
}

# The same server for another user: what comes of a session, by its names.
sub as {
	my ($self, %session) = @_;
	return bless { %$self, %session, gone => 1 }, ref $self;
}

# The value of Authorization for a canonical request.
sub _authorization {
	my ($self, $t, $names, $canonical) = @_;
	my $scope = substr($t, 0, 8) . '/us-east-1/s3/aws4_request';
	my $key = 'AWS4' . $self->{secret};
	$key = hmac_sha256($_, $key) for split m{/}, $scope;
	my $sig = hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256', $t, $scope,
		sha256_hex($canonical)), $key);
	return "AWS4-HMAC-SHA256 Credential=$self->{access}/$scope, "
	    . "SignedHeaders=$names, Signature=$sig";
}

# One signed request: {status, headers, body}. query: a sorted list of pairs.
sub request {
	my ($self, $method, $path, $query, $body) = @_;
	$body //= '';
	my $t = POSIX::strftime('%Y%m%dT%H%M%SZ', gmtime);
	my $hash = sha256_hex($body);
	my $host = "127.0.0.1:$self->{port}";
	my $q = join '&', map { "$_->[0]=" . _encode($_->[1], '') }
	    @{ $query // [] };
	my $p = _encode($path, '/');
	my @token = defined $self->{token} # of a session
	    ? "x-amz-security-token:$self->{token}" : ();
	my $names = 'host;x-amz-content-sha256;x-amz-date'
	    . (@token ? ';x-amz-security-token' : '');
	my $canonical = join "\n", $method, $p, $q, "host:$host",
	    "x-amz-content-sha256:$hash", "x-amz-date:$t", @token, '', $names,
	    $hash;
	my $c = Edgehaul::Raw->new($host) or return { status => 0 };
	$c->send(join "\r\n", "$method $p" . (length $q ? "?$q" : '')
		. ' HTTP/1.1', "Host: $host", "x-amz-content-sha256: $hash",
		"x-amz-date: $t", @token, 'Content-Length: ' . length $body,
		'Authorization: '
		. $self->_authorization($t, $names, $canonical),
		'Connection: close', '', $body);
	return $c->response(head => $method eq 'HEAD') // { status => 0 };
}

sub bucket {
	my ($self, $name) = @_;
	my $r = $self->request('PUT', "/$name");
	die "bucket $name: $r->{status} $r->{body}\n" if $r->{status} != 200;
	return $self;
}

# What PUT /v1/storages wants to know of it.
sub storage {
	my ($self, $bucket, %more) = @_;
	return (type => 'S3', endpoint => $self->endpoint, bucket => $bucket,
		region => 'us-east-1', addressing => 'path',
		allowHttp => JSON::PP::true(), accessKeyId => $self->{access},
		secretAccessKey => $self->{secret}, %more);
}

# Names of all objects of a bucket.
sub keys {
	my ($self, $bucket) = @_;
	my (@keys, $after);
	do {
		my $r = $self->request('GET', "/$bucket", [['list-type', 2],
			defined $after ? ['start-after', $after] : ()]);
		die "list $bucket: $r->{status}\n" if $r->{status} != 200;
		my @page = $r->{body} =~ m{<Key>([^<]*)</Key>}g;
		push @keys, @page;
		$after = $r->{body} =~ m{<IsTruncated>true}
		    ? Edgehaul::xml_text($page[-1]) : undef;
	} while defined $after;
	return map { Edgehaul::xml_text($_) } @keys;
}

# {body, type, headers} of an object, or undef.
sub object {
	my ($self, $bucket, $key) = @_;
	my $r = $self->request('GET', "/$bucket/$key");
	return undef if $r->{status} != 200;
	return { body => $r->{body}, type => $r->{headers}{'content-type'},
		headers => $r->{headers} };
}

1;
