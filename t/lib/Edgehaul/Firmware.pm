# Firmware.pm - a gateway's firmware cache, filled by hand
#
# For tests of the proxy alone: no agent runs. The publisher's key, manifests
# and slices are made by t/firmware/cache, which uses lib/cache as the agent
# does; the agent's doorbell may be answered by the test (bell, rings, ring).
package Edgehaul::Firmware;
use strict;
use warnings;
use Digest::MD5 ();
use Digest::SHA ();
use Edgehaul ();
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_DGRAM);

# box: an Edgehaul::Gateway that does not run yet; product, channel.
sub new {
	my ($class, $box, %o) = @_;
	my $dir = Edgehaul->dir('firmware');
	my $self = bless { box => $box, dir => $dir, product => 'cam-x',
		channel => 'stable', seq => 0, releases => [], revoked => [],
		cache => "$box->{dir}/state/cache", expires => 86400, %o },
	    $class;
	mkdir $self->{cache};
	$self->{key} = $self->tool('key', "$dir/secret.key");
	chomp $self->{key};
	$box->configure(firmware => { publisher_key => $self->{key} });
	return $self;
}

# Run t/firmware/cache: what it prints.
sub tool {
	my ($self, @args) = @_;
	my ($rc, $out, $err) = Edgehaul->run(
		Edgehaul::top_builddir() . '/t/firmware/cache',
		$self->{cache}, @args);
	die "cache @args: $err\n" if $rc != 0;
	return $out;
}

# Octets that do not repeat, the same for each seed.
sub octets {
	my ($size, $seed) = @_;
	my $block = join '', map { Digest::SHA::sha512("$seed:$_") } 1 .. 1023;
	my ($out, $n) = ('', 0);
	$out .= Digest::SHA::sha512("$seed/" . $n++) . $block
	    while length $out < $size;
	return substr $out, 0, $size;
}

# A file with its hashes, as it goes into a release.
sub file {
	my ($self, $name, $content) = @_;
	my $path = "$self->{dir}/$name";
	Edgehaul::spit($path, $content);
	my $list = join '', map { Digest::SHA::sha256($_) }
	    unpack '(a262144)*', $content;
	return { name => $name, file => $path, size => length $content,
		content => $content,
		sha256 => Digest::SHA::sha256_hex($content),
		sha1 => Digest::SHA::sha1_hex($content),
		md5 => Digest::MD5::md5_hex($content),
		list => Digest::SHA::sha256_hex($list) };
}

# Add a release: files => [...], and what else stands in the manifest.
sub release {
	my ($self, $version, %o) = @_;
	my $files = delete $o{files};
	my @f = map { {
		component => $_->{component} // 'firmware',
		path => "$self->{product}/$self->{channel}/$version/$_->{name}",
		size => $_->{size} + 0, sha256 => $_->{sha256},
		sha1 => $_->{sha1}, md5 => $_->{md5},
		slices => { size => 262144, sha256 => $_->{list} },
	} } @$files;
	my $r = { version => $version, seq => 1 + @{ $self->{releases} },
		files => \@f, %o };
	push @{ $self->{releases} }, $r;
	return $r;
}

sub time_text { POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $_[0]) }

# Sign the manifest with all releases under a new seq and put it; `ring` the
# proxy if it runs.
sub publish {
	my ($self) = @_;
	my $json = Edgehaul::json_encode({ v => 1, product => $self->{product},
		channel => $self->{channel}, seq => ++$self->{seq},
		issued => time_text(time - 10),
		expires => time_text(time + $self->{expires}),
		releases => $self->{releases}, revoked => $self->{revoked} });
	Edgehaul::spit("$self->{dir}/manifest.json", $json);
	$self->tool('manifest', "$self->{dir}/secret.key",
		"$self->{dir}/manifest.json");
	$self->ring("manifest $self->{product} $self->{channel}");
}

# Put slices of a file (all, or count from first on) and tell the proxy.
sub fill {
	my ($self, $f, @slices) = @_;
	$self->tool('blob', $self->{product}, $self->{channel},
		"$self->{product}/$self->{channel}/1/$f->{name}", $f->{file},
		@slices);
	$self->ring("filled $f->{sha256} " . join ' ', @slices ? @slices : (0, 1));
}

sub blob { "$_[0]{cache}/blob/$_[1]{sha256}" }

# ---- the agent's side of the doorbells ------------------------------------

sub bell {
	my ($self) = @_;
	my $path = "$self->{box}{dir}/run/agent.bell";
	unlink $path;
	$self->{bell} = IO::Socket::UNIX->new(Type => SOCK_DGRAM,
		Local => $path) or die "$path: $!\n";
	$self->{bell}->blocking(0);
	return $self;
}

# What the proxy has rung since.
sub rings {
	my ($self) = @_;
	my @all;
	while (defined $self->{bell}->recv(my $msg, 8192)) {
		push @all, $msg;
	}
	return @all;
}

sub ring {
	my ($self, $text) = @_;
	my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM,
		Peer => "$self->{box}{dir}/run/proxy.bell") or return;
	$s->send($text);
}

# Answer what is wanted with fill() until cond is true; its value. count: at
# most so many slices at a time.
sub serve {
	my ($self, $files, $cond, %o) = @_;
	my %by = map { $_->{sha256} => $_ } @$files;
	return Edgehaul::wait_for(sub {
		for ($self->rings) {
			my ($hash, $first, $n) = /^want (\w+) (\d+) (\d+)/
			    or next;
			my $f = $by{$hash} or next;
			$n = $o{count} if $o{count} && $n > $o{count};
			$self->{wants}++;
			$self->fill($f, $first, $n);
		}
		return $cond->();
	}, $o{secs} // 30);
}

1;
