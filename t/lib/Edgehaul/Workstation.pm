# Workstation.pm - the publisher's workstation: edgehaul firmware and its files
package Edgehaul::Workstation;
use strict;
use warnings;
use Edgehaul ();
use Edgehaul::Daemon;

# url of the signer, token; conf: more lines for [publisher]; key: a file.
sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('workstation');
	my $self = bless { dir => $dir,
		program => Edgehaul::top_builddir() . '/ctl/edgehaul',
		key => $o{key} // "$dir/publisher.key" }, $class;
	Edgehaul::spit("$dir/token", "$o{token}\n");
	chmod 0600, "$dir/token";
	Edgehaul::spit("$dir/publisher.conf", join "\n", '[publisher]',
		"url = $o{url}", "token_file = $dir/token",
		"key_file = $self->{key}", "state_dir = $dir/state",
		'allow_http = yes', @{ $o{conf} // [] }, '');
	return $self;
}

sub conf { "$_[0]{dir}/publisher.conf" }

# (exit code, stdout, stderr) of edgehaul firmware WORD...
sub run {
	my ($self, $word, @args) = @_;
	return Edgehaul::Daemon->run($self->{program}, '--config',
		$self->conf, 'firmware', $word, @args);
}

# The same in the background; its pid.
sub start {
	my ($self, $word, @args) = @_;
	my $pid = fork // die "fork: $!\n";
	return $pid if $pid;
	open STDOUT, '>', "$self->{dir}/out.$$" or die;
	open STDERR, '>', "$self->{dir}/err.$$" or die;
	exec $self->{program}, '--config', $self->conf, 'firmware', $word, @args;
	die "exec: $!\n";
}

# A new key by keygen; its public line.
sub keygen {
	my ($self) = @_;
	my ($rc, $out, $err) = $self->run('keygen', '--no-password', $self->{key});
	die "keygen: $err" if $rc != 0;
	return (split /\n/, Edgehaul::slurp("$self->{key}.pub"))[1];
}

# A file of the workstation.
sub file {
	my ($self, $name, $bytes) = @_;
	return Edgehaul::spit("$self->{dir}/$name", $bytes);
}

1;
