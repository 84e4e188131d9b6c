printf 1 > 'with space'; printf 2 > "quo'te"; printf 3 > '[brackets]'; printf 4 > 'üñí'; printf 5 > '-dash'; printf 6 > 'star*'
long=$(printf '%0120d' 7); mkdir -p "$long/$long"; printf 7 > "$long/$long/x"
