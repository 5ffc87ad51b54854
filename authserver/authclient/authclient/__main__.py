from authclient.command import main

main()
