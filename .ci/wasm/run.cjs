// usage: node run.cjs DIRECTORY: two heartbeats side by side.
const { beat } = require(`${process.argv[2]}/beat.js`);

Promise.all([beat(), beat()]).then((told) => {
    for (const one of told) console.log(one);
});
