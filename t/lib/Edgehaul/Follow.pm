# Follow.pm - does what an agent does with the recipes of a signer
#
# Against real stores, which verify what was signed. Whole uploads, uploads in
# parts, and each way to change a signed request, which has to be refused.
package Edgehaul::Follow;
use strict;
use warnings;
use Digest::MD5 qw(md5_hex md5_base64);
use Digest::SHA qw(sha256_hex);
use Edgehaul ();
use JSON::PP ();
use Test::More;

# A signer that runs, and the token of a gateway.
sub new {
	my ($class, $signer, $token) = @_;
	return bless { s => $signer, token => $token, answers => {} }, $class;
}

# The results of POST /v1/sign, each upload with an id of its own.
sub results {
	my ($self, @uploads) = @_;
	my $n = 0;
	my $r = Edgehaul::http('POST', $self->{s}->url . '/v1/sign',
	    token => $self->{token},
	    json => { uploads => [map { { id => 'u' . $n++, %$_ } } @uploads] });
	$self->{answers}{$_} = $r->{json}{answers}{$_}
	    for keys %{ $r->{json}{answers} // {} };
	$self->{content} = $r->{content};
	return @{ $r->{json}{results} // [] };
}

sub sign {
	my ($self, %up) = @_;
	my ($res) = $self->results(\%up);
	diag($self->{content}) if !$res->{recipe};
	return $res->{recipe};
}

sub upload_of {
	my (undef, $storage, $key, $body, %more) = @_;
	return (storage => $storage, key => $key, size => length $body,
	    sha256 => sha256_hex($body), %more);
}

# A request to where the harness' client cannot go, by TLS: {status, ...}.
sub _by_curl {
	my ($method, $uri, $headers, $content) = @_;
	my $base = Edgehaul->dir . '/curl';
	Edgehaul::spit("$base.body", $content // '');
	my ($rc, $out, $err) = Edgehaul->run('curl', '-sS', '-k', '-i',
		'--path-as-is', '--max-time', 20,
		$method eq 'HEAD' ? '-I' : ('-X', $method),
		(map { ('-H', "$_: $headers->{$_}") } keys %$headers),
		'-H', 'Expect:', defined $content
		    ? ('--data-binary', "\@$base.body") : (),
		defined $content && !$headers->{'content-type'}
		    && !$headers->{'Content-Type'} ? ('-H', 'Content-Type:')
		    : (), $uri);
	my ($head, $body) = split /\r\n\r\n/, $out, 2;
	diag($err) if $rc != 0;
	my ($status, @lines) = split /\r\n/, $head // '';
	return { status => ($status // '') =~ m{^HTTP/\S+ (\d+)} ? $1 : 599,
		headers => { map { /^([^:]+):\s*(.*)/ ? (lc $1, $2) : () }
			@lines }, content => $body // '' };
}

# Do one request of a recipe; the answer, with what was sent.
sub perform {
	my (undef, $rq, $body, %o) = @_;
	my $content = !$rq->{body} ? undef
	    : $rq->{body}{file} ? $body
	    : $rq->{body}{range} ? substr($body, $rq->{body}{range}{offset},
		$rq->{body}{range}{length}) : $rq->{body}{text};
	my %h = (%{ $rq->{headers} }, %{ $o{headers} // {} });
	delete $h{$_} for @{ $o{without} // [] };
	my ($method, $uri) = ($o{method} // $rq->{method},
	    $o{uri} // $rq->{uri});
	my $send = defined $content ? $o{content} // $content
	    : $rq->{method} =~ /^P/ ? '' : undef;
	my $r = $uri =~ /^https:/ ? _by_curl($method, $uri, \%h, $send)
	    : Edgehaul::http($method, $uri, headers => \%h,
		defined $send ? (content => $send) : ());
	$r->{sent} = $content;
	return $r;
}

# A whole recipe; the values kept are added to %$kept. True if all went well.
sub follow {
	my ($self, $recipe, $body, $kept) = @_;
	my $r;
	for my $rq (@{ $recipe->{requests} }) {
		$r = $self->perform($rq, $body);
		if (!grep { $_ == $r->{status} } @{ $rq->{ok} }) {
			diag("$rq->{method}: $r->{status} $r->{content}");
			return 0;
		}
		for my $name (keys %{ $rq->{keep} // {} }) {
			my $k = $rq->{keep}{$name};
			my $v = $k->{header} ? $r->{headers}{ lc $k->{header} }
			    : $k->{tag} ? ($r->{content}
				=~ m{<$k->{tag}>([^<]*)<})[0] : $k->{text};
			return 0 if !defined $v;
			$v =~ s/&quot;/"/g;
			$kept->{$name} = $v;
		}
	}
	my $v = $recipe->{verify};
	my $sent = $r->{sent} // $body;
	return 0 if $v->{size} && $r->{headers}{'content-length'} != length $body;
	return 1 if !$v->{header};
	(my $got = $r->{headers}{ lc $v->{header} } // '') =~ s/"//g;
	my %digest = ('md5-hex' => md5_hex($sent), 'md5-base64' =>
		md5_base64($sent) . '==', 'sha256-hex' => sha256_hex($sent));
	diag("verify $v->{header}: $got") if $got ne $digest{ $v->{digest} };
	return $got eq $digest{ $v->{digest} };
}

# What the answers' table tells to do.
sub what_to_do {
	my ($self, $storage, $r) = @_;
	my ($code) = $r->{content} =~ m{<Code>([^<]*)<};
	$code //= $r->{headers}{'x-ms-error-code'} // '';
	for my $row (@{ $self->{answers}{$storage} }) {
		next if $row->{status} != $r->{status};
		next if defined $row->{code} && $row->{code} ne $code;
		return $row->{do};
	}
	return "nothing ($r->{status} $code)";
}

# ---- whole tales ----------------------------------------------------------

my @hard = ('plain.jpg', 'with blank.jpg', 'a+b&c=d%20e.jpg',
    "caf\xc3\xa9.jpg", '~tilde/(x)!*\'.jpg', 'q?u#e.jpg', 'a:b@c,d;e.jpg',
    'dots.../x..y', '%2F%zz+.jpg', "\xe5\x86\x99\xe7\x9c\x9f/\xf0\x9f\x93\xb7");

# Uploads with names that are hard to sign; the storage is called $name.
sub uploads {
	my ($self, $name, $store, $bucket) = @_;
	my $body = 'picture ' x 5000;
	for my $key (@hard) {
		my $text = $key;
		utf8::decode($text);
		my %up = $self->upload_of($name, $text, $body);
		my $recipe = $self->sign(%up, contentType => 'image/jpeg',
		    contentEncoding => 'identity',
		    metadata => { 'original-size' => '7' });
		ok($self->follow($recipe, $body, {}), "$name: $key is taken");
		my $o = $store->object($bucket, "gw-1/$key");
		is($o && sha256_hex($o->{body}), sha256_hex($body),
		    "$name: byte for byte");
		is($o && $o->{type}, 'image/jpeg', "$name: its type");
		ok($self->follow($self->sign(%up, method => 'HEAD'), $body, {}),
		    "$name: HEAD verifies it");
	}
	is($self->perform($self->sign(storage => $name, key => 'none',
		    method => 'HEAD')->{requests}[0], '')->{status}, 404,
	    "$name: HEAD of nothing");
}

# A store that knows If-None-Match or the like: nothing is written over.
sub kept_apart {
	my ($self, $name) = @_;
	my $recipe = $self->sign($self->upload_of($name, $hard[0], 'other',
		contentType => 'image/jpeg'));
	my $r = $self->perform($recipe->{requests}[0], 'other');
	cmp_ok($r->{status}, '>=', 400, "$name: nothing is written over");
	is($self->what_to_do($name, $r), 'verify', "$name: verify is to be done");
}

# Each change of a signed PUT, by what it is called.
sub changes {
	my ($rq, $body) = @_;
	my $uri = $rq->{uri};
	my %change = (
		signature => { uri => $uri =~ s/(sig|Signature)=(.)/
			"$1=" . ($2 eq 'a' ? 'b' : 'a')/er },
		key => { uri => $uri =~ s/changed/other/r },
		expiry => { uri => $uri =~ s/(Expires=|se=20)(\d)/
			$1 . ($2 + 1)/er },
		method => { method => 'DELETE' },
		'signature that is none' => { uri => $uri =~
			s/[&?](sig|X-Amz-Signature)=[^&]*//r },
	);
	if ($uri =~ /X-Amz-/) { # headers are signed
		$change{type} = { headers => { 'content-type' => 'text/html' } };
		$change{'type that is none'} = { without => ['content-type'] };
		$change{length} = { content => $body . 'x' };
		$change{'header of metadata'} = { headers =>
			{ 'x-amz-meta-sha256' => 'a' x 64 } };
		$change{query} = { uri => "$uri&partNumber=1" };
		$change{date} = { uri => $uri =~ s/(Date=\d{7})(\d)/
			$1 . ($2 + 1) % 10/er };
	} else {
		$change{permission} = { uri => $uri =~ s/sp=c\b/sp=cwd/r };
		$change{version} = { uri => $uri =~ s/sv=[\d-]+/sv=2020-12-06/r };
		$change{resource} = { uri => $uri =~ s/sr=b/sr=c/r };
	}
	return \%change;
}

# Each change is refused, and nothing comes of it.
sub refusals {
	my ($self, $name, $store, $bucket, %more) = @_;
	my $body = 'picture ' x 100;
	my $rq = $self->sign($self->upload_of($name, 'changed', $body,
		contentType => 'image/jpeg'))->{requests}[0];
	my $change = { %{ changes($rq, $body) }, %more };
	for my $what (sort keys %$change) {
		my $r = $self->perform($rq, $body, %{ $change->{$what} });
		ok($r->{status} == 403 || ($r->{status} == 400
			&& $what =~ /date|none/),
		    "$name: refused: another $what")
		    or diag("$r->{status} $r->{content}");
	}
	is(scalar(grep { m{/(changed|other)} } $store->keys($bucket)), 0,
	    "$name: and nothing came of it");
	is($self->perform($rq, $body)->{status}, $rq->{ok}[0],
	    "$name: as it was it is taken");
}

# A URI that has ended. Sign it early, use it late: the wait is for its end.
sub short_lived {
	my ($self, $name, $store, $bucket, %more) = @_;
	$self->{s}->storage("$name-old", $store->storage($bucket), %more,
	    expirationDuration => 'PT1S');
	return [$name, time, $self->sign($self->upload_of("$name-old", 'old',
		    'x'))->{requests}[0]];
}
sub ended {
	my ($self, $short) = @_;
	my ($name, $at, $rq) = @$short;
	select undef, undef, undef, 0.1 while time < $at + 3;
	my $r = $self->perform($rq, 'x');
	is($r->{status}, 403, "$name: refused: expired");
	is($self->what_to_do("$name-old", $r), 'sign',
	    "$name: a new URI is what to do");
}

# A large one; unread: its objects are not the bucket's owner's to read.
sub parts {
	my ($self, $name, $store, $bucket, %o) = @_;
	my $body = join '', map { chr($_ & 255) x 4096 } 1 .. 3000;
	my %up = $self->upload_of($name, 'film.mp4', $body,
		contentType => 'video/mp4');
	my $recipe = $self->sign(%up);
	my $kept = {};
	is($recipe->{parts}{count}, 3, "$name: a large one goes in 3 parts");
	is($recipe->{step}, 'part', "$name: a part comes next");
	ok($self->follow($recipe, '', $kept), "$name: start");
	for my $n (3, 1, 2, 2) { # any order, and one of them again
		ok($self->follow($self->sign(%up, step => 'part', part => $n,
			kept => $kept), $body, $kept), "$name: part $n");
	}
	ok($self->follow($self->sign(%up, step => 'finish', kept => $kept),
		$body, $kept), "$name: finish, and it is verified");
	if (!$o{unread}) {
		my $o = $store->object($bucket, 'gw-1/film.mp4');
		is($o && sha256_hex($o->{body}), sha256_hex($body),
		    "$name: byte for byte");
		is($o && $o->{type}, 'video/mp4', "$name: its type");
	}
	%up = (%up, key => 'given-up.mp4');
	$kept = {};
	ok($self->follow($self->sign(%up), '', $kept), "$name: start another");
	ok($self->follow($self->sign(%up, step => 'abort', kept => $kept), '',
		{}), "$name: abort it");
}

# A storage that is replaced, and deleted: it is kept to look and to give up.
sub replaced {
	my ($self, $store, $bucket) = @_;
	my %doc = ($store->storage($bucket), partSize => 5 << 20);
	my $body = 'm' x (6 << 20);
	my %up = $self->upload_of('moved', 'moved.mp4', $body);
	my @kept;
	for (1 .. 2) { # two uploads at the storage as it is first
		$self->{s}->storage('moved', %doc) if !@kept;
		push @kept, {};
		ok($self->follow($self->sign(%up, key => "moved$_.mp4"), '',
			$kept[-1]), 'begun at a storage');
	}
	$self->follow($self->sign(%up, key => 'moved1.mp4', step => 'part',
		part => $_, kept => $kept[0]), $body, $kept[0]) for 1, 2;
	ok($self->follow($self->sign(%up, key => 'moved1.mp4', step => 'finish',
		kept => $kept[0]), $body, $kept[0]), 'one is finished');
	my $old = $self->sign(%up, key => 'moved1.mp4', method => 'HEAD')->{uri};
	$self->{s}->storage('moved', %doc, bucket => 'elsewhere');
	for my $now ('replaced', 'deleted') {
		for my $step ('part', 'finish') {
			my ($res) = $self->results({ %up, key => 'moved2.mp4',
				step => $step, part => 2, kept => $kept[1] });
			is($res->{error}{do}, $now eq 'replaced' ? 'start'
			    : 'wait', "$now: no $step is signed");
		}
		my $head = $self->sign(%up, key => 'moved1.mp4', method => 'HEAD',
		    kept => $kept[0]);
		like($head->{uri}, qr{/$bucket/}, "$now: a look goes where it was");
		ok($self->follow($head, $body, {}), "$now: and finds it");
		like($self->sign(%up, key => 'moved2.mp4', step => 'abort',
			kept => $kept[1])->{uri}, qr{/$bucket/},
		    "$now: so does giving up");
		my ($whole) = $self->results({ %up, size => 1,
			kept => $kept[1] });
		is($now eq 'replaced'
		    ? $whole->{recipe}{uri} =~ m{/elsewhere/} ? 1 : 0
		    : $whole->{error}{do} eq 'wait' ? 1 : 0, 1,
		    "$now: nothing new goes there");
		$self->{s}->rest('DELETE', '/v1/storages/moved');
	}
	ok($self->follow($self->sign(%up, key => 'moved2.mp4', step => 'abort',
		kept => $kept[1]), '', {}), 'and it is given up');
}

# ---- POST /v1/storages/NAME/test ------------------------------------------

# Set it and test it; GET shows the same.
sub tested {
	my ($self, $name, %doc) = @_;
	$self->{s}->storage($name, %doc);
	my $r = $self->{s}->rest('POST', "/v1/storages/$name/test");
	is($r->{status}, 200, "$name: tested");
	is_deeply($self->{s}->rest('GET', "/v1/storages/$name")->{json}{status},
	    $r->{json}, "$name: GET shows how it went");
	return $r->{json};
}
sub works {
	my ($self, $name, %doc) = @_;
	my $st = $self->tested($name, %doc);
	return ok($st->{ok}, "$name works")
	    || diag(Edgehaul::json_encode($st));
}
sub wrong {
	my ($self, $name, $like, %doc) = @_;
	my $st = $self->tested($name, %doc);
	ok(!$st->{ok}, "$name: it does not work");
	like($st->{error}, $like, "$name: told in words");
	ok($st->{hint}, "$name: and what to do");
}

1;
