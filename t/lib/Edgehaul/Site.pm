# Site.pm - everything at once: a signer, its storage, a gateway that uses it
#
# Edgehaul->site(
#	storage => { type => 'S3', ... },  default { type => 'FILE' }; undef: none
#	conf => { section => { key => value } },   of gateway.conf
#	signer_conf => "lines\n",
#	start => 0,                        starts nothing but the signer
# )
package Edgehaul::Site;
use strict;
use warnings;
use parent -norequire, 'Edgehaul::Gateway';
use Edgehaul ();
use Edgehaul::Gateway;
use Edgehaul::Signer;
use File::Find ();

sub new {
	my ($class, %o) = @_;
	my $signer = Edgehaul->signer(conf => $o{signer_conf});
	my $name = $o{name} // 'gw-1';
	$signer->admin;
	my $token = $o{token}
	    // $signer->token('gateway', '--gateway', $name);
	$signer->start;
	my $storage = exists $o{storage} ? $o{storage} : { type => 'FILE' };
	$signer->storage('default', %$storage) if $storage;
	my $self = $class->SUPER::new(%o, signer => $signer->url,
		token => $token, name => $name);
	$self->{signer} = $signer;
	return $self if exists $o{start} && !$o{start};
	$self->proxy->start;
	$self->agent->start;
	return $self;
}

sub signer { $_[0]{signer} }

# All files of the FILE storage: { path below its folder => full path }.
sub files {
	my ($self) = @_;
	my $dir = $self->{signer}{objects};
	my %found;
	File::Find::find({ no_chdir => 1, wanted => sub {
		return if !-f $File::Find::name;
		my $rel = substr $File::Find::name, 1 + length $dir;
		$found{$rel} = $File::Find::name;
	} }, $dir);
	return \%found;
}

1;
