# Tokens.pm - a token service as Azurite believes it: OAuth client credentials
#
# Azurite checks audience, issuer and times of a token, not its signature. The
# application's secret is "it"; another one is refused as the real service
# does.
package Edgehaul::Tokens;
use strict;
use warnings;
use Edgehaul ();
use IO::Socket::INET;
use MIME::Base64 ();
use POSIX ();

sub new {
	my ($class) = @_;
	my $dir = Edgehaul->dir('tokens');
	my $self = bless { dir => $dir, owner => $$ }, $class;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
		Listen => 64) or die "listen: $!\n";
	$self->{port} = $listen->sockport;
	Edgehaul::register($self);
	$self->{pid} = fork // die "fork: $!\n";
	return $self if $self->{pid};
	$SIG{TERM} = 'DEFAULT';
	while (my $c = $listen->accept) {
		my $in = '';
		while ($in !~ /\r\n\r\n.*client_secret=.*scope=/s) {
			sysread $c, $in, 65536, length $in or last;
		}
		_answer($c, $in =~ /client_secret=it(&|$)/
		    ? (200, { token_type => 'Bearer', expires_in => 3599,
			    access_token => _jwt() })
		    : (401, { error => 'invalid_client' }));
		close $c;
	}
	POSIX::_exit(0);
}

sub name { 'tokens' }
sub authority { "127.0.0.1:$_[0]{port}" }

sub _answer {
	my ($c, $status, $answer) = @_;
	my $text = Edgehaul::json_encode($answer);
	print $c "HTTP/1.1 $status X\r\nContent-Length: " . length($text)
	    . "\r\nConnection: close\r\n\r\n$text";
}

sub _jwt {
	my $now = time;
	return join '.', map { MIME::Base64::encode_base64url($_) }
	    '{"alg":"RS256","typ":"JWT"}', Edgehaul::json_encode({
		aud => 'https://storage.azure.com', iat => $now, nbf => $now - 60,
		exp => $now + 3600, ver => '1.0', oid => '1111-22',
		iss => 'https://sts.windows.net/3333-44/', tid => '3333-44' }),
	    'unchecked';
}

sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || !$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
}

sub DESTROY { local ($?, $!, $@); $_[0]->stop_quietly }

1;
