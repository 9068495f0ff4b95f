# Raw.pm - HTTP as octets on a socket, for what HTTP libraries will not send
#
# A connection keeps what was read and not yet used, so that pipelined answers
# come out one by one, split by their own framing.
package Edgehaul::Raw;
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use Socket qw(AF_UNIX IPPROTO_TCP PF_UNSPEC SOCK_STREAM TCP_NODELAY);
use Time::HiRes ();

# A socket whose other end is TLS to the address, by openssl: the core of Perl
# has none. Who is there is not checked.
sub _tls {
	my ($address) = @_;
	socketpair my $s, my $far, AF_UNIX, SOCK_STREAM, PF_UNSPEC
	    or die "socketpair: $!\n";
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		open STDIN, '<&', $far;
		open STDOUT, '>&', $far;
		open STDERR, '>', '/dev/null';
		exec 'openssl', 's_client', '-quiet', '-connect', $address;
	}
	return $s;
}

# from: the address to send from (of 127.0.0.0/8); timeout: seconds; tls: 1;
# rcvbuf: octets.
sub new {
	my ($class, $address, %o) = @_;
	my $s = $o{tls} ? _tls($address) : $o{rcvbuf} ? _small($address, $o{rcvbuf})
	    : IO::Socket::INET->new(PeerAddr => $address, Proto => 'tcp',
		($o{from} ? (LocalAddr => $o{from}) : ()), Timeout => 10)
	    or return undef;
	setsockopt($s, IPPROTO_TCP, TCP_NODELAY, 1) if !$o{tls};
	binmode $s;
	return bless { s => $s, buf => '', eof => 0,
		timeout => ($o{timeout} // 20) * Edgehaul::slowness() }, $class;
}

# One that takes in little at a time, in packets as on a LAN: on the loopback's
# large ones the sender's kernel would take megabytes. Set before it connects.
sub _small {
	my ($address, $rcvbuf) = @_;
	my ($host, $port) = split /:/, $address;
	my $s = IO::Socket::INET->new(Proto => 'tcp', Type => Socket::SOCK_STREAM)
	    or return undef;
	setsockopt($s, Socket::SOL_SOCKET, Socket::SO_RCVBUF, $rcvbuf);
	setsockopt($s, IPPROTO_TCP, Socket::TCP_MAXSEG, 1400);
	return connect($s, Socket::pack_sockaddr_in($port,
		Socket::inet_aton($host))) ? $s : undef;
}

sub socket { $_[0]{s} }
sub rest { $_[0]{buf} }

# Write all of it; false if the other side took no more.
sub send {
	my ($self, $bytes) = @_;
	my $off = 0;
	while ($off < length $bytes) {
		my $n = syswrite $self->{s}, $bytes, length($bytes) - $off,
		    $off;
		return 0 if !defined $n;
		$off += $n;
	}
	return 1;
}

sub half_close { shutdown $_[0]{s}, 1 }
sub close { close $_[0]{s}; $_[0]{eof} = 1 }

# Read once, for at most secs; 0 at end or silence.
sub fill {
	my ($self, $secs) = @_;
	return 0 if $self->{eof};
	return 0
	    if !IO::Select->new($self->{s})->can_read($secs // $self->{timeout});
	my $n = sysread $self->{s}, $self->{buf}, 65536, length $self->{buf};
	return $n if $n;
	$self->{eof} = 1; # a reset counts as a close
	return 0;
}

# Did the server close within secs? What comes until then is kept.
sub closed {
	my ($self, $secs) = @_;
	my $end = Time::HiRes::time() + $secs;
	while (!$self->{eof}) {
		my $left = $end - Time::HiRes::time();
		return 0 if $left <= 0;
		$self->fill($left);
	}
	return 1;
}

# The next answer: {status, headers (lower case), body, json}, undef if the
# connection ends or stays silent first. 1xx answers are skipped unless asked.
sub response {
	my ($self, %o) = @_;
	my $secs = $o{timeout} // $self->{timeout};
	my $r;
	do {
		$r = $self->_one($secs, $o{head});
	} while $r && $r->{status} < 200 && !$o{interim};
	return $r;
}

sub _one {
	my ($self, $secs, $no_body) = @_;
	my $at;
	while (($at = index $self->{buf}, "\r\n\r\n") < 0) {
		return undef if !$self->fill($secs);
	}
	my ($first, @lines) = split /\r\n/, substr $self->{buf}, 0, $at;
	$first =~ m{^HTTP/1\.[01] (\d{3})} or return undef;
	my %r = (status => $1, headers => {}, body => '');
	for (@lines) {
		my ($n, $v) = split /:\s*/, $_, 2;
		$r{headers}{lc $n} = $v;
	}
	substr($self->{buf}, 0, $at + 4) = '';
	return \%r if $no_body || $r{status} < 200 || $r{status} == 204
	    || $r{status} == 304;
	if (defined(my $n = $r{headers}{'content-length'})) {
		while (length $self->{buf} < $n) {
			return undef if !$self->fill($secs);
		}
		$r{body} = substr $self->{buf}, 0, $n, '';
	} else {
		1 while $self->fill($secs);
		$r{body} = $self->{buf};
		$self->{buf} = '';
	}
	$r{json} = eval { Edgehaul::json_decode($r{body}) }
	    if ($r{headers}{'content-type'} // '') =~ /json/;
	return \%r;
}

# Send bytes on a new connection to "HOST:PORT"; the answers, until the server
# closes or is silent. {answers, interim, closed}. pieces: send in so many
# octets at a time. eof: shut down our side at the end. from: as in new.
sub exchange {
	my ($address, $bytes, %o) = @_;
	my $c = Edgehaul::Raw->new($address, from => $o{from})
	    or return undef;
	my $step = $o{pieces} || length($bytes) || 1;
	for (my $off = 0; $off < length $bytes; $off += $step) {
		$c->send(substr $bytes, $off, $step) or last;
		Time::HiRes::sleep($o{pause}) if $o{pause};
	}
	$c->half_close if $o{eof};
	my (@answers, $interim);
	my $quiet = $o{quiet} // 1;
	while (my $r = $c->response(interim => 1,
		timeout => @answers ? $quiet : ($o{timeout} // $quiet))) {
		if ($r->{status} < 200) {
			$interim++;
		} else {
			push @answers, $r;
		}
		last if $o{count} && @answers >= $o{count};
	}
	return { answers => \@answers, interim => $interim // 0,
		closed => $c->closed($o{quiet} // 0.2), rest => $c->rest };
}

# A PUT on this connection and its answer. type, headers (a list of lines).
sub put {
	my ($self, $path, $body, %o) = @_;
	my $head = join "\r\n", ($o{method} // 'PUT') . " $path HTTP/1.1",
	    'Host: gateway.lan', 'Content-Length: ' . length $body,
	    (defined $o{type} ? "Content-Type: $o{type}" : ()),
	    @{ $o{headers} // [] }, '', '';
	$self->send($head . $body);
	return $self->response;
}

1;
