# git knows no hard links.
ln first second; mkdir sub; ln first sub/third
