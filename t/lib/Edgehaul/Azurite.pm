# Azurite.pm - a real Azure Blob server, spoken to with Shared Key
package Edgehaul::Azurite;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Daemon';
use Digest::SHA qw(hmac_sha256);
use Edgehaul ();
use Edgehaul::Daemon;
use Edgehaul::Raw;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64 decode_base64);
use POSIX ();

# args: more options of azurite; scheme: https if they make it so.
sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('azurite');
	my $port = Edgehaul::free_port();
	my $self = $class->SUPER::new(name => 'azurite', short => 'azurite',
		dir => $dir, program => Edgehaul::have('node') . '/node',
		args => [Edgehaul::azurite_main(), '--blobHost', '127.0.0.1',
			'--blobPort', $port, '--inMemoryPersistence',
			'--silent', '--disableTelemetry', @{ $o{args} // [] }]);
	$self->{scheme} = $o{scheme} // 'http';
	$self->{port} = $port;
	$self->{account} = 'camstore';
	$self->{key} = encode_base64("key of the test's account" x 2, '');
	local $ENV{AZURITE_ACCOUNTS} = "$self->{account}:$self->{key}";
	$self->launch;
	Edgehaul::wait_for(sub {
		IO::Socket::INET->new("127.0.0.1:$port") || !$self->running
	}, 30);
	die 'azurite: ' . $self->log if !$self->running;
	return $self;
}

sub _command { # neither wrapped nor under another user
	my ($self) = @_;
	return ('setpriv', '--pdeathsig', 'KILL', $self->{program},
		@{ $self->{args} });
}

# It is no daemon of ours: how it ends does not matter.
sub stop_quietly { $_[0]{owner} == $$ and $_[0]->kill9 }

sub endpoint { "$_[0]{scheme}://127.0.0.1:$_[0]{port}/$_[0]{account}" }

# The value of Authorization. p: the path as sent; q: the query's pairs.
sub _authorization {
	my ($self, $method, $p, $q, $n, $date, $version) = @_;
	my $to_sign = join "\n", $method, '', '', $n || '', ('') x 8,
	    "x-ms-date:$date", "x-ms-version:$version",
	    "/$self->{account}$p", map { "$_:$q->{$_}" } sort keys %$q;
	my $sig = encode_base64(
	    hmac_sha256($to_sign, decode_base64($self->{key})), '');
	return "SharedKey $self->{account}:$sig";
}

# One request with a Shared Key signature; path begins with the container.
sub request {
	my ($self, $method, $path, $query, $body) = @_;
	$body //= '';
	my $date = POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime);
	my $version = '2021-12-02';
	my $n = length $body;
	(my $p = "/$self->{account}/$path") =~
	    s{([^A-Za-z0-9_.~/-])}{sprintf '%%%02X', ord $1}ge;
	my %q = @{ $query // [] };
	my $qs = join '&', map { "$_=$q{$_}" } sort keys %q;
	my $c = Edgehaul::Raw->new("127.0.0.1:$self->{port}",
		tls => $self->{scheme} eq 'https')
	    or return { status => 0 };
	$c->send(join "\r\n", "$method $p" . (length $qs ? "?$qs" : '')
		. ' HTTP/1.1', "Host: 127.0.0.1:$self->{port}",
		"x-ms-date: $date", "x-ms-version: $version",
		"Content-Length: $n", 'Authorization: '
		. $self->_authorization($method, $p, \%q, $n, $date, $version),
		'Connection: close', '', $body);
	return $c->response(head => $method eq 'HEAD') // { status => 0 };
}

sub container {
	my ($self, $name) = @_;
	my $r = $self->request('PUT', $name, [restype => 'container']);
	die "container $name: $r->{status} $r->{body}\n"
	    if $r->{status} != 201;
	return $self;
}

sub storage {
	my ($self, $container, %more) = @_;
	return (type => 'AZURE', container => $container,
		allowHttp => JSON::PP::true(),
		connectionString => join(';',
			"DefaultEndpointsProtocol=$self->{scheme}",
			"AccountName=$self->{account}",
			"AccountKey=$self->{key}",
			'BlobEndpoint=' . $self->endpoint), %more);
}

# Names of all objects of a container (the first 5,000).
sub keys {
	my ($self, $container) = @_;
	my $r = $self->request('GET', $container,
		[comp => 'list', restype => 'container']);
	die "list $container: $r->{status} $r->{body}\n"
	    if $r->{status} != 200;
	return map { Edgehaul::xml_text($_) }
	    $r->{body} =~ m{<Name>([^<]*)</Name>}g;
}

# {body, type, headers} of an object, or undef.
sub object {
	my ($self, $container, $key) = @_;
	my $r = $self->request('GET', "$container/$key");
	return undef if $r->{status} != 200;
	return { body => $r->{body}, type => $r->{headers}{'content-type'},
		headers => $r->{headers} };
}

1;
