set -eu
for folder in css docs images; do
    for number in 1 2 3 4 5 6 7 8 9; do
        mkdir -p "site/$folder/$number"
        echo text >"site/$folder/$number/page.html"
        echo text >"site/$folder/file-$number.txt"
    done
done
exec caddy file-server --listen "127.0.0.1:$PORT" --root site --browse
