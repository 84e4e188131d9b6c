mkdir n; mkdir n/becomes-dir; echo in > n/becomes-dir/in; echo new > n/file; chmod 701 n/becomes-dir
tar --owner=1 --group=1 --numeric-owner --sort=name --mtime=2006-06-06 -cf new.tar -C n becomes-dir file; rm -r n
