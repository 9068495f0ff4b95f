# Publisher.pm - a publisher by hand: images, manifests, stock minisign
package Edgehaul::Publisher;
use strict;
use warnings;
use Digest::SHA qw(sha256 sha256_hex);
use Digest::MD5 ();
use Edgehaul ();
use HTTP::Tiny;

# token: of a publisher.
sub new {
	my ($class, $signer, %o) = @_;
	my $dir = Edgehaul->dir('publisher');
	my $self = bless { dir => $dir, signer => $signer, token => $o{token},
		put => {} }, $class;
	my ($rc, undef, $err) = Edgehaul->run('minisign', '-G', '-W', '-f',
		'-p', "$dir/key.pub", '-s', "$dir/key");
	die "minisign: $err" if $rc != 0;
	return $self;
}

sub key { "$_[0]{dir}/key" }
sub public { (split /\n/, Edgehaul::slurp("$_[0]{dir}/key.pub"))[1] }

# Some bytes that do not compress, the same for the same name.
sub bytes {
	my ($name, $size) = @_;
	my $block = '';
	$block .= sha256("$name $_") for 1 .. 2048;
	my $s = '';
	my $n = 0;
	$s .= sha256($name . $n++) . $block while length $s < $size;
	return substr $s, 0, $size;
}

# {bytes, list, file}: file is what the check of a version wants.
sub image {
	my ($self, $name, $size) = @_;
	my $bytes = bytes($name, $size);
	my $list = '';
	for (my $at = 0; $at < $size; $at += 262144) {
		$list .= sha256(substr $bytes, $at, 262144);
	}
	return { bytes => $bytes, list => $list, file => { name => "$name.bin",
		size => $size, sha256 => sha256_hex($bytes),
		slicesSha256 => sha256_hex($list) } };
}

# A release for a manifest.
sub release {
	my ($self, $version, $seq, $image, %o) = @_;
	my $f = $image->{file};
	return { version => $version, seq => $seq, files => [{ name => $f->{name},
		size => $f->{size}, sha256 => $f->{sha256},
		slices => { size => 262144, sha256 => $f->{slicesSha256} } }],
		%o };
}

# {manifest, signature} as PUT wants them.
sub manifest {
	my ($self, $product, $channel, $seq, $releases, %o) = @_;
	my @copy = map { +{ %$_, files => [map { my $f = { %$_ };
		$f->{path} //= join '/', $product, $channel, $_[0], delete $f->{name};
		$f } @{ $_->{files} }] } } @$releases;
	for my $i (0 .. $#copy) {
		for my $j (0 .. $#{ $copy[$i]{files} }) {
			my $from = $releases->[$i]{files}[$j];
			$copy[$i]{files}[$j]{path} = $from->{path} // join '/',
			    $product, $channel, $releases->[$i]{version}, $from->{name};
			delete $copy[$i]{files}[$j]{name};
		}
	}
	my $comment = delete $o{comment}
	    // "edgehaul product:$product channel:$channel seq:$seq";
	my $text = Edgehaul::json_encode({ v => 1, product => $product,
		channel => $channel, seq => $seq,
		issued => '2026-01-01T00:00:00Z',
		expires => '2090-01-01T00:00:00Z', releases => \@copy,
		revoked => [], %o });
	return { manifest => $text, signature => $self->sign($text, $comment) };
}

sub sign {
	my ($self, $text, $comment) = @_;
	my $file = "$self->{dir}/m$$";
	Edgehaul::spit($file, $text);
	my ($rc, undef, $err) = Edgehaul->run('minisign', '-S', '-W', '-s',
		$self->key, '-m', $file, '-t', $comment);
	die "minisign: $err" if $rc != 0;
	return Edgehaul::slurp("$file.minisig");
}

# Do what a recipe's first request says.
sub put {
	my ($self, $recipe, $bytes) = @_;
	return HTTP::Tiny->new->request($recipe->{method}, $recipe->{uri},
		{ content => $bytes, headers => $recipe->{headers} });
}

sub get {
	my ($self, $recipe, %o) = @_;
	return HTTP::Tiny->new->get($recipe->{uri}, { headers => {
		%{ $recipe->{headers} }, defined $o{range} ? (range => $o{range}) : () } });
}

# The uploads that PUT of a manifest answered.
sub put_all {
	my ($self, $answer, $m) = @_;
	for my $u (@{ $answer->{uploads} }) {
		my $bytes = $u->{name} =~ /minisig$/ ? $m->{signature} : $m->{manifest};
		next if !$u->{recipe};
		my $r = $self->put($u->{recipe}, $bytes);
		die "$u->{name}: $r->{status} $r->{content}\n" if !$r->{success};
		$self->{put}{ $u->{name} } = $bytes;
	}
}

# An object of the signer's FILE storage.
sub read {
	my ($self, $path) = @_;
	return Edgehaul::slurp(
	    "$self->{signer}{objects}/$self->{signer}{tenant}/default/firmware/$path");
}

1;
